"""Nucleus sampling (arXiv 1904.09751) from one uniform number a token, so that a text depends on its own seed alone."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from textcosm.baselines.settings import RivalSampler

FIRST_LOOK = 256
"""Likeliest tokens that are sorted at first: their mass is nearly always enough, and sorting all is slow on a CPU."""


def choose(
    logits: Float[Tensor, "rows tokens"],
    uniforms: Float[Tensor, " rows"],
    top_p: float = 0.9,
    temperature: float = 1.0,
) -> Int[Tensor, " rows"]:
    """A token for each row: drawn from the fewest likeliest ones whose mass reaches ``top_p``, by inverse cdf."""
    chances = torch.softmax(logits.double() / temperature, dim=-1)
    best, tokens = chances.topk(min(FIRST_LOOK, chances.shape[-1]))
    if len(best) and best.sum(-1).min() < top_p:
        best, tokens = chances.sort(dim=-1, descending=True)
    reached = best.cumsum(-1)
    # The token that crosses top_p belongs to the nucleus (and for top_p = 1, rounding must not lose the last one).
    size = (reached < top_p).sum(-1, keepdim=True).clamp(max=best.shape[-1] - 1)
    aim = uniforms.double()[:, None] * reached.gather(-1, size)
    place = torch.minimum((reached <= aim).sum(-1, keepdim=True), size)
    return tokens.gather(-1, place)[:, 0]


class Draw:
    """A logits processor that leaves only the drawn token: ``generate``'s greedy choice is then a sample.

    Of the scores only the first ``kept`` may be drawn. transformers' own sampling has one random source for the whole
    batch, and sorts the whole vocabulary at every step.
    """

    def __init__(self, kept: int, sampler: RivalSampler, uniforms: Tensor):
        self.kept, self.sampler, self.uniforms = kept, sampler, uniforms

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        uniforms = self.uniforms[:, input_ids.shape[1] - 1]
        chosen = choose(scores[:, : self.kept], uniforms, self.sampler.top_p, self.sampler.temperature)
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


def uniforms_of(seeds: Sequence[int], count: int) -> Float[Tensor, "seeds count"]:
    """Uniform numbers, each row from its own seed; on the CPU, as devices draw differently."""
    return torch.stack([torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
