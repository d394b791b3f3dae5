"""How good a model is: metrics of texts, judges that are language models, and the model card."""
