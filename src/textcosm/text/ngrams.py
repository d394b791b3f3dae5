"""How much likelier a token is after the two before it than anywhere: a trigram model of the training texts.

Interpolated absolute discounting (Ney, Essen and Kneser 1994) down to the tokens' own frequencies, all of it as ratios to
these: what a decoder knows of a place holds the frequency of its tokens already. Tables are of integers, a row for
each context as in a CSR matrix, and small enough to ship: some 2 MB for 40,000 stories.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from textcosm.errors import CheckpointError

DISCOUNT = 0.75
"""Taken off every count, and given to what was not seen."""
LEAST = 2
"""Runs of two or three tokens that were seen less often are not kept."""
UNSEEN = 0.1
"""The count of a token that the texts do not hold."""
TABLES = ("offsets", "tokens", "counts")
NONE = -1
"""The row of a pair that is not kept."""


class NGrams(nn.Module):
    """Tables of which tokens follow a token, and a pair of tokens; made by :meth:`of_texts`."""

    unigrams: Tensor

    def __init__(self, tables: Mapping[str, Tensor]):
        """``tables``: what ``state_dict()`` gives. Raises CheckpointError where something is missing."""
        super().__init__()
        names = ["unigrams", *(f"{kind}.{table}" for kind in ("bigrams", "trigrams") for table in TABLES)]
        if odd := sorted(set(names) ^ set(tables)):
            raise CheckpointError(f"these are no tables of n-grams (see {odd[0]!r}): save the model again")
        self.register_buffer("unigrams", tables["unigrams"])
        seen = self.unigrams.float()
        share = seen.clamp(min=UNSEEN) / seen.sum().clamp(min=1)
        self.vocab_size = len(seen)
        pairs, triples = ([tables[f"{kind}.{table}"] for table in TABLES] for kind in ("bigrams", "trigrams"))
        self.bigrams = Runs(pairs, seen, share)
        self.trigrams = Runs(triples, self.bigrams.counts.float(), share)

    @classmethod
    def of_texts(cls, tokens: Int[Tensor, " all"], starts: Int[Tensor, " texts"], vocab_size: int) -> "NGrams":
        """Of texts end to end, each ``[start] tokens [end]``, which begin at ``starts``."""
        tokens = tokens.long()
        first = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        first[starts] = True
        goes_on = ~first[1:]
        pairs = tokens[:-1] * vocab_size + tokens[1:]
        kept, counts = _often(pairs[goes_on])
        triples = pairs[:-1] * vocab_size + tokens[2:]
        runs, run_counts = _often(triples[goes_on[:-1] & goes_on[1:]])
        rows = torch.searchsorted(kept, runs // vocab_size)  # a run that is kept begins with a pair that is
        tables = {"unigrams": tokens.bincount(minlength=vocab_size)}
        tables |= _table("bigrams", kept // vocab_size, kept % vocab_size, counts, vocab_size)
        tables |= _table("trigrams", rows, runs % vocab_size, run_counts, len(kept))
        return cls({name: _small(table) for name, table in tables.items()})

    def follow(
        self, pair: Int[Tensor, "..."], last: Int[Tensor, "..."], token: Int[Tensor, "..."]
    ) -> tuple[Float[Tensor, "..."], Int[Tensor, "..."]]:
        """The log-ratio of ``token`` after ``last``, which ends the kept pair number ``pair`` (NONE: no kept one).

        All three of one shape. Also the number of the pair that ``token`` ends, for what follows it.
        """
        lift, ending = self.bigrams.find(last, token)
        ratio = lift + self.bigrams.left[last]
        if len(self.trigrams.keys):
            known = pair.clamp(min=0)
            lift, _ = self.trigrams.find(known, token)
            ratio = torch.where(pair != NONE, lift + self.trigrams.left[known] * ratio, ratio)
        return ratio.log(), ending


class Runs(nn.Module):
    """Tokens that follow contexts, row after row of contexts, and what they add to the ratio."""

    offsets: Tensor
    tokens: Tensor
    counts: Tensor
    keys: Tensor
    lift: Tensor
    left: Tensor

    def __init__(self, tables: Sequence[Tensor], total: Tensor, share: Tensor):
        """``tables``: as in TABLES. ``total``: how often each context stands in the texts; ``share``: of each token among all."""
        super().__init__()
        offsets, tokens, counts = tables
        rows = torch.repeat_interleave(offsets.long().diff())
        ratio = (counts.float() - DISCOUNT) / total[rows]
        left = 1 - torch.zeros_like(total).index_add_(0, rows, ratio)
        for name, table in zip(TABLES, tables, strict=True):
            self.register_buffer(name, table)
        derived = {"keys": rows * len(share) + tokens.long(), "lift": ratio / share[tokens.long()], "left": left}
        for name, table in derived.items():
            self.register_buffer(name, table, persistent=False)
        self.vocab_size = len(share)

    def find(self, row: Int[Tensor, "..."], token: Int[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Int[Tensor, "..."]]:
        """What a kept run adds to the ratio, and its number; 0 and NONE for one that is not kept."""
        if not len(self.keys):
            return torch.zeros(token.shape, device=token.device), torch.full_like(token, NONE)
        wanted = row * self.vocab_size + token
        place = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        is_kept = self.keys[place] == wanted
        return torch.where(is_kept, self.lift[place], 0.0), torch.where(is_kept, place, NONE)


def _often(keys: Tensor) -> tuple[Tensor, Tensor]:
    kept, counts = keys.unique(return_counts=True)
    return kept[counts >= LEAST], counts[counts >= LEAST]


def _table(kind: str, rows: Tensor, tokens: Tensor, counts: Tensor, size: int) -> dict[str, Tensor]:
    offsets = torch.cat((rows.new_zeros(1), rows.bincount(minlength=size).cumsum(0)))
    return dict(zip((f"{kind}.{table}" for table in TABLES), (offsets, tokens, counts), strict=True))


def _small(table: Tensor) -> Tensor:
    """In the smallest type that holds it; nothing is below 0."""
    largest = int(table.max()) if len(table) else 0
    return table.to(next(kind for kind in (torch.int16, torch.int32, torch.int64) if largest <= torch.iinfo(kind).max))
