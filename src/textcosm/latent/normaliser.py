"""Normalisation of latents per (slot, feature), from the texts that the diffusion model learns."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from textcosm.errors import ConfigError
from textcosm.shapes import Latents

VARIANCE_FLOOR = 1e-4


class Normaliser(nn.Module):
    """``(z - mean) / std`` with statistics of shape ``(slots, latent_width)`` as buffers."""

    mean: Tensor
    std: Tensor

    def __init__(self, slots: int, latent_width: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(slots, latent_width))
        self.register_buffer("std", torch.ones(slots, latent_width))

    def fit(self, batches: Iterable[Latents]) -> None:
        """Take the statistics of clean latents; sums are kept in float64, the variance is floored at 1e-4."""
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        squares = torch.zeros_like(total)
        count = 0
        for latents in batches:
            exact = latents.to(total.device, torch.float64)
            total += exact.sum(0)
            squares += exact.square().sum(0)
            count += len(exact)
        if count < 2:
            raise ConfigError(f"latent statistics need 2 texts or more, got {count}; give more data")
        mean = total / count
        variance = (squares / count - mean.square()).clamp_min(VARIANCE_FLOOR)
        self.mean.copy_(mean)
        self.std.copy_(variance.sqrt())

    def normalise(self, latents: Latents) -> Latents:
        """Raw latents of the compressor to zero mean and unit variance."""
        return (latents - self.mean) / self.std

    def denormalise(self, latents: Latents) -> Latents:
        """Normalised latents back to what the decompressor reads."""
        return latents * self.std + self.mean
