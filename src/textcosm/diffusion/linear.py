"""The best linear guess of clean latents, in closed form from their covariance: where a denoiser can start from."""

from collections.abc import Callable, Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textcosm.diffusion.schedule import TanSchedule
from textcosm.errors import ConfigError
from textcosm.shapes import Latents, Times

OVERSAMPLED = 64
"""Directions searched beyond those kept, which makes the last ones kept more exact (arXiv 0909.4061)."""
RIDGES = (1e-3, 1e-2, 1e-1, 1.0)
"""Shrinkages of the regression on sources, as shares of the mean variance: the best on held-out pairs is taken."""
HELD_OUT = 10
"""Every tenth pair measures the regression and what it leaves."""
PASSES = 4
"""Over the latents: each turns the directions towards those of largest variance, the last one measures them."""


class LinearGuess(nn.Module):
    """``E[x_0 | x_t]`` for Gaussian latents of zero mean (the Wiener filter), over all numbers of a text at once.

    The ``rank`` directions of largest variance have their own gain ``alpha v / (alpha^2 v + sigma^2)``; the others share
    one variance. It knows what every slot says of every other one, as far as that is linear, without a step of training.

    Where texts answer sources whose own latents are given, it is ``E[x_0 | x_t, source]``: around the mean that a ridge
    regression on the source's directions says, with the variances that it leaves.
    """

    directions: Tensor
    variances: Tensor
    rest: Tensor
    answers: Tensor
    left: Tensor

    def __init__(
        self, rank: int, slots: int, latent_width: int, schedule: TanSchedule, reads_sources: bool = False
    ) -> None:
        """Raises ConfigError where a text has fewer numbers than ``rank``."""
        super().__init__()
        size = slots * latent_width
        if rank > size:
            raise ConfigError(f"denoiser linear_rank = {rank} is more than a text's {size} numbers; lower it")
        self.schedule, self.size = schedule, size
        self.register_buffer("directions", torch.eye(rank, size))
        self.register_buffer("variances", torch.ones(rank))
        self.register_buffer("rest", torch.ones(()))
        self.reads_sources = reads_sources
        if reads_sources:
            self.register_buffer("answers", torch.zeros(rank, rank))
            self.register_buffer("left", torch.ones(rank))

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[Latents]], generator: torch.Generator) -> None:
        """Take directions and variances from clean normalised latents ``(batch, slots, latent_width)``.

        By subspace iteration: the covariance itself, which for 80 x 384 numbers would be 4 GB, is never made.
        batches: called once a pass, for the same latents. Raises ConfigError for fewer than two texts.
        """
        rank, device = len(self.variances), self.directions.device
        start = torch.randn(self.size, min(self.size, rank + OVERSAMPLED), generator=generator, device=generator.device)
        found = torch.linalg.qr(start.to(device)).Q
        for _ in range(PASSES - 1):
            products = torch.zeros_like(found)
            for flat in _rows(batches, device):
                products.addmm_(flat.T, flat @ found)
            found = torch.linalg.qr(products).Q
        inner = torch.zeros(found.shape[1], found.shape[1], device=device)
        texts, total = 0, 0.0
        for flat in _rows(batches, device):
            seen = flat @ found
            inner.addmm_(seen.T, seen)
            texts, total = texts + len(flat), total + float(flat.square().sum())
        if texts < 2:
            raise ConfigError(f"a covariance needs 2 texts or more, got {texts}; give more data")
        values, vectors = torch.linalg.eigh(inner / texts)
        self.variances.copy_(values.flip(0)[:rank].clamp_min(0))
        self.directions.copy_((found @ vectors).T.flip(0)[:rank])
        left = total / texts - float(self.variances.sum())
        self.rest.fill_(max(0.0, left / max(1, self.size - rank)))

    @torch.no_grad()
    def fit_sources(self, pairs: Iterable[tuple[Latents, Latents]]) -> None:
        """After :meth:`fit`: what the latents of a source say of those of its answer, from batches of (answers, sources).

        Raises ConfigError for fewer than HELD_OUT pairs.
        """
        device = self.directions.device
        seen = [[side.to(device, torch.float32).flatten(1) @ self.directions.T for side in pair] for pair in pairs]
        answers, sources = (torch.cat(side) for side in zip(*seen, strict=True)) if seen else (torch.empty(0), torch.empty(0))
        if len(answers) < HELD_OUT:
            raise ConfigError(f"a regression on sources needs {HELD_OUT} pairs or more, got {len(answers)}; give more data")
        tests = torch.arange(len(answers), device=device) % HELD_OUT == 0
        known, wanted = sources[~tests], answers[~tests]
        inner, outer = known.T @ known / len(known), wanted.T @ known / len(known)
        unit = inner.diagonal().mean().clamp_min(1e-12) * torch.eye(len(inner), device=device)
        best = float("inf")
        for ridge in RIDGES:
            found = torch.linalg.solve(inner + ridge * unit, outer.T).T
            errors = (answers[tests] - sources[tests] @ found.T).square().mean(0)
            if errors.sum() < best:
                best = float(errors.sum())
                self.answers.copy_(found)
                self.left.copy_(errors)

    def forward(self, noisy: Latents, time: Times, source: Latents | None = None) -> Latents:
        """The guess for latents noised to ``time`` (one for each sample); ``source``: latents of theirs, zeros for none."""
        alpha, sigma = self.schedule.alpha(time)[:, None], self.schedule.sigma(time)[:, None]

        def gain(variance: Tensor) -> Float[Tensor, "batch _"]:
            return alpha * variance / (alpha**2 * variance + sigma**2).clamp_min(1e-12)

        flat = noisy.flatten(1).to(self.directions.dtype)
        others = gain(self.rest)
        with torch.autocast(noisy.device.type, enabled=False):  # near time 0 the guess is as exact as its input
            seen = flat @ self.directions.T
            if source is None or not self.reads_sources:
                shares = seen * (gain(self.variances) - others)
            else:
                given = source.flatten(1).to(self.directions.dtype)
                mean = given @ self.directions.T @ self.answers.T
                spread = torch.where(given.any(1, keepdim=True), self.left, self.variances)
                shares = mean + gain(spread) * (seen - alpha * mean) - others * seen
            guess = others * flat + shares @ self.directions
        return guess.view_as(noisy).to(noisy.dtype)


def _rows(batches: Callable[[], Iterable[Latents]], device: torch.device) -> Iterator[Float[Tensor, "_ size"]]:
    """All numbers of a text as one row."""
    return (latents.to(device, torch.float32).flatten(1) for latents in batches())
