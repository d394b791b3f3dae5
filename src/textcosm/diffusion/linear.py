"""The best linear guess of clean latents, in closed form from their covariance: where a denoiser can start from."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textcosm.diffusion.schedule import TanSchedule
from textcosm.errors import ConfigError
from textcosm.shapes import Latents, Times

LARGEST = 16_384
"""Numbers of a text beyond which its covariance no longer fits: 1 GB in float32."""


class LinearGuess(nn.Module):
    """``E[x_0 | x_t]`` for Gaussian latents of zero mean (the Wiener filter), over all numbers of a text at once.

    The ``rank`` directions of largest variance have their own gain ``alpha v / (alpha^2 v + sigma^2)``; the others share
    one variance. It knows what every slot says of every other one, as far as that is linear, without a step of training.
    """

    directions: Tensor
    variances: Tensor
    rest: Tensor

    def __init__(self, rank: int, slots: int, latent_width: int, schedule: TanSchedule) -> None:
        """Raises ConfigError where a text has fewer numbers than ``rank`` or too many for a covariance."""
        super().__init__()
        size = slots * latent_width
        if rank > size:
            raise ConfigError(f"denoiser linear_rank = {rank} is more than a text's {size} numbers; lower it")
        if size > LARGEST:
            raise ConfigError(
                f"denoiser linear_rank = {rank} needs the covariance of {slots} x {latent_width} = {size} numbers, above "
                f"{LARGEST}; give linear_rank 0, or fewer or narrower latents"
            )
        self.schedule, self.size = schedule, size
        self.register_buffer("directions", torch.eye(rank, size))
        self.register_buffer("variances", torch.ones(rank))
        self.register_buffer("rest", torch.ones(()))

    @torch.no_grad()
    def fit(self, batches: Iterable[Latents]) -> None:
        """Take directions and variances from clean normalised latents ``(batch, slots, latent_width)``."""
        products = torch.zeros(self.size, self.size, device=self.directions.device)
        texts = 0
        for latents in batches:
            flat = latents.to(products).flatten(1)
            products.addmm_(flat.T, flat)
            texts += len(flat)
        if texts < 2:
            raise ConfigError(f"a covariance needs 2 texts or more, got {texts}; give more data")
        values, vectors = torch.linalg.eigh(products / texts)
        rank = len(self.variances)
        self.variances.copy_(values.flip(0)[:rank].clamp_min(0))
        self.directions.copy_(vectors.T.flip(0)[:rank])
        left = values.sum() - self.variances.sum()
        self.rest.copy_((left / max(1, self.size - rank)).clamp_min(0))

    def forward(self, noisy: Latents, time: Times) -> Latents:
        """The guess for latents noised to ``time`` (one for each sample)."""
        alpha, sigma = self.schedule.alpha(time)[:, None], self.schedule.sigma(time)[:, None]

        def gain(variance: Tensor) -> Float[Tensor, "batch _"]:
            return alpha * variance / (alpha**2 * variance + sigma**2).clamp_min(1e-12)

        flat = noisy.flatten(1).to(self.directions.dtype)
        others = gain(self.rest)
        with torch.autocast(noisy.device.type, enabled=False):  # near time 0 the guess is as exact as its input
            shares = (flat @ self.directions.T) * (gain(self.variances) - others)
            guess = others * flat + shares @ self.directions
        return guess.view_as(noisy).to(noisy.dtype)
