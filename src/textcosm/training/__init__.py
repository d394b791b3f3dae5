"""Training: one loop for every stage, from a file of texts to a model."""
