"""Multi-head attention from already projected queries, keys and values."""

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def attend(
    queries: Float[Tensor, "batch queries inner"],
    keys: Float[Tensor, "batch keys inner"],
    values: Float[Tensor, "batch keys inner"],
    heads: int,
    mask: Bool[Tensor, "batch keys"] | None = None,
) -> Float[Tensor, "batch queries inner"]:
    """Scaled dot-product attention, ``inner = heads * head width``; keys where ``mask`` is False are not seen."""
    q, k, v = (split_heads(x, heads) for x in (queries, keys, values))
    seen = None if mask is None else mask[:, None, None, :]
    return merge_heads(F.scaled_dot_product_attention(q, k, v, attn_mask=seen))


def split_heads(x: Float[Tensor, "batch length inner"], heads: int) -> Float[Tensor, "batch heads length head"]:
    """``(batch, length, heads * head) -> (batch, heads, length, head)``."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(
    x: Float[Tensor, "batch heads length head"],
) -> Float[Tensor, "batch length inner"]:
    """The inverse of :func:`split_heads`."""
    return x.transpose(1, 2).flatten(-2)
