"""The names of the tensors that the rooms exchange, with their axes.

jaxtyping annotations: free in production, checked by beartype in the tests.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Tokens = Int[Tensor, "batch length"]
"""Token ids of the backbone's vocabulary."""
Mask = Bool[Tensor, "batch length"]
"""True where a token is real, False where it is padding."""
Forms = Int[Tensor, "batch length"]
"""Written form of each token: case and preceding space (see text/surface.py)."""
Activations = Float[Tensor, "batch length width"]
"""Contextual vectors of the frozen encoder, or the decompressor's estimate of them."""
Latents = Float[Tensor, "batch slots latent_width"]
"""The compressed text: N vectors."""
Logits = Float[Tensor, "batch length vocab"]
"""Scores of every token of the vocabulary."""
Times = Float[Tensor, " batch"]
"""Diffusion time of each sample, from 0 (clean) to 1 (noise)."""

NUM_FORMS = 6
"""How many written forms there are: three cases, each with and without white space before the token."""
