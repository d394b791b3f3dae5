"""Batches of texts of similar length, so that little is wasted on padding."""

from collections.abc import Sequence

import torch

from textcosm.errors import ConfigError

BATCHES_SORTED_TOGETHER = 64
"""Texts are sorted by length within random chunks of this many batches: enough to pad little, few enough to mix."""


def length_buckets(
    lengths: Sequence[int] | torch.Tensor, batch_size: int, generator: torch.Generator
) -> list[list[int]]:
    """Every index of ``lengths`` once, in shuffled batches of ``batch_size`` (one may be smaller) of similar length."""
    if batch_size < 1:
        raise ConfigError(f"batch_size is {batch_size}; give 1 or more")
    sizes = torch.as_tensor(lengths)
    order = torch.randperm(len(sizes), generator=generator)
    batches: list[list[int]] = []
    for chunk in order.split(batch_size * BATCHES_SORTED_TOGETHER) if len(order) else ():
        ranked = chunk[torch.argsort(sizes[chunk], stable=True)]
        batches += [batch.tolist() for batch in ranked.split(batch_size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
