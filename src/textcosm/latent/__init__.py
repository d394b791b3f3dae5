"""The latent room: activations of a text encoder to a few smooth latent vectors, and back."""
