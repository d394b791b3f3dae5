"""Words that agree with one another: the decoder's evidence for each place and an n-gram model's for their order.

All places of a text are decoded at once, each by itself, and neighbours that are likely alone need not fit: "a a dog".
Shallow fusion, as recognisers of speech do it, asks both. Where the evidence of the places is independent, Bayes has

    log p(text | latents) = sum over places of  log p(token | latents) + weight * log [p(token | two before) / p(token)]

at weight 1. A beam search climbs it; only the words are chosen anew, their places and the end of a text stay.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from textcosm.shapes import Tokens
from textcosm.text.ngrams import NONE, NGrams
from textcosm.text.tokenizer import SpecialTokens

BEAMS, CANDIDATES = 16, 16
"""Texts in the beam, and tokens at a place."""


def fused(
    ngrams: NGrams,
    weight: float,
    scores: Float[Tensor, "batch length candidates"],
    candidates: Int[Tensor, "batch length candidates"],
    tokens: Tokens,
    held: Bool[Tensor, "batch length"],
    special: SpecialTokens,
) -> Tokens:
    """``tokens``, with other words from among ``candidates`` where they fit their neighbours better.

    scores: the decoder's, of each candidate; a constant for a place changes nothing. The first token of a text, its end
    and what follows it, and the places that are ``held`` keep their token.
    """
    ends = tokens == special.end
    ends[:, 0] = False
    over = ends.cumsum(1) - ends.long() > 0  # behind the first end
    fixed = held | ends | over
    frames = torch.tensor([special.start, special.end, special.pad, special.mask], device=tokens.device)
    scores = scores.masked_fill(torch.isin(candidates, frames), -torch.inf)
    # A fixed place has one candidate; so has one where the decoder thinks of nothing but frames.
    only = fixed | scores.isinf().all(-1)
    scores = torch.where(only[..., None], -torch.inf, scores)
    scores[..., 0].masked_fill_(only, 0.0)
    candidates = torch.where(only[..., None], tokens[..., None], candidates)

    written = tokens[:, None, :1]
    pair = torch.full_like(written[..., 0], NONE)
    total = torch.zeros(pair.shape, device=tokens.device)
    for place in range(1, int((~over).sum(1).max())):
        token = candidates[:, None, place].expand(-1, total.shape[1], -1)
        last, before = (part[..., None].expand_as(token) for part in (written[..., -1], pair))
        ratio, ending = ngrams.follow(before, last, token)
        ratio = ratio.masked_fill(over[:, place, None, None], 0.0)
        found = (total[..., None] + scores[:, None, place] + weight * ratio).flatten(1)
        total, best = found.topk(min(BEAMS, found.shape[1]), 1)
        row = best // token.shape[-1]
        written = written.gather(1, row[..., None].expand(-1, -1, written.shape[-1]))
        written = torch.cat((written, token.flatten(1).gather(1, best)[..., None]), -1)
        pair = ending.flatten(1).gather(1, best)
    best = written[:, 0]
    return torch.cat((best, tokens[:, best.shape[1] :]), 1)
