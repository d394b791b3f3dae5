"""The Perceiver stack that serves as compressor and, mirrored, as decompressor (arXiv 2506.21170)."""

from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from textcosm.nn.attention import attend


class PerceiverLayer(nn.Module):
    """``queries += attention(queries, [queries, context])``, then ``queries += feed_forward(queries)``.

    The context is read and never written. Each stream has its own norm and its own key and value projection;
    queries and keys are RMS-normed per head; projections have no biases.
    """

    def __init__(self, width: int, heads: int, head_width: int, ff_width: int, dropout: float):
        super().__init__()
        self.heads = heads
        inner = heads * head_width
        self.query_norm = nn.RMSNorm(width)
        self.context_norm = nn.RMSNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.self_key_value = nn.Linear(width, 2 * inner, bias=False)
        self.context_key_value = nn.Linear(width, 2 * inner, bias=False)
        self.head_query_norm = nn.RMSNorm(head_width)
        self.head_key_norm = nn.RMSNorm(head_width)
        self.out = nn.Linear(inner, width, bias=False)
        self.feed_forward = FeedForward(width, ff_width, dropout)

    def forward(
        self,
        queries: Float[Tensor, "batch queries width"],
        context: Float[Tensor, "batch context width"],
        seen: Bool[Tensor, "batch keys"] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """One layer; ``seen`` covers the keys ``[queries, context]``, True where attention may look."""
        normed = self.query_norm(queries)
        self_key, self_value = self.self_key_value(normed).chunk(2, dim=-1)
        context_key, context_value = self.context_key_value(self.context_norm(context)).chunk(2, dim=-1)
        mixed = attend(
            self._norm_heads(self.head_query_norm, self.query(normed)),
            self._norm_heads(self.head_key_norm, torch.cat([self_key, context_key], dim=1)),
            torch.cat([self_value, context_value], dim=1),
            self.heads,
            seen,
        )
        queries = queries + self.out(mixed)
        return queries + self.feed_forward(queries)

    def _norm_heads(self, norm: nn.RMSNorm, x: Tensor) -> Tensor:
        return norm(x.unflatten(-1, (self.heads, -1))).flatten(-2)


class Perceiver(nn.Module):
    """A stack of :class:`PerceiverLayer`; layers do not share weights."""

    def __init__(self, depth: int, width: int, heads: int, head_width: int, ff_width: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList([PerceiverLayer(width, heads, head_width, ff_width, dropout) for _ in range(depth)])

    def blocks(self) -> list[PerceiverLayer]:
        """The layers, first to last."""
        return [cast(PerceiverLayer, layer) for layer in self.layers]

    def forward(
        self,
        queries: Float[Tensor, "batch queries width"],
        context: Float[Tensor, "batch context width"],
        context_mask: Bool[Tensor, "batch context"] | None = None,
    ) -> Float[Tensor, "batch queries width"]:
        """Updated queries; context positions where ``context_mask`` is False are not seen."""
        seen = None
        if context_mask is not None:
            seen = torch.cat([context_mask.new_ones(queries.shape[:2]), context_mask], dim=1)
        for layer in self.layers:
            queries = layer(queries, context, seen)
        return queries


class FeedForward(nn.Sequential):
    """LayerNorm, Linear, GELU, dropout, Linear."""

    def __init__(self, width: int, ff_width: int, dropout: float):
        super().__init__(
            nn.LayerNorm(width), nn.Linear(width, ff_width), nn.GELU(), nn.Dropout(dropout), nn.Linear(ff_width, width)
        )

    @property
    def last(self) -> nn.Linear:
        """The Linear that writes into the residual stream."""
        return cast(nn.Linear, self[-1])
