"""Guidance by the gradient of a score: what any differentiable function of latents can ask for."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from textcosm.errors import ConfigError
from textcosm.shapes import Latents

Score = Callable[[Latents], Float[Tensor, " batch"]]
"""A number for each text, such as a log-probability; differentiable, and no row looks at another."""


def ascend(score: Score, latents: Latents, length: float | Float[Tensor, " batch"]) -> Latents:
    """One step up the gradient of ``score``, as long for every text as ``length`` says, however steep it is there.

    Lengths are in latent vectors: 1 moves a text by as much as the norm of one normalised latent, sqrt(width).
    """
    _, direction = _read(score, latents)
    return latents + torch.as_tensor(length, device=latents.device).view(-1, 1, 1) * direction


def persuade(log_probability: Score, latents: Latents, length: float, steps: int) -> Latents:
    """So many steps towards a certainty, each at most ``length`` long, and the shorter the more likely it is already."""
    for _ in range(steps):
        found, direction = _read(log_probability, latents)
        doubt = -torch.expm1(found.clamp(max=0))
        latents = latents + length * doubt[:, None, None] * direction
    return latents


def _read(score: Score, latents: Latents) -> tuple[Float[Tensor, " batch"], Latents]:
    """The scores, and for each text its gradient at the length of one latent vector: one pass and its way back."""
    with torch.enable_grad():
        here = latents.detach().requires_grad_()
        found = score(here)
        (gradient,) = torch.autograd.grad(found.sum(), here)
    norm = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
    return found.detach(), gradient * (latents.shape[-1] ** 0.5 / norm)[:, None, None]


@dataclass(frozen=True)
class ByGradient:
    """A guide towards a higher ``score``; a negative ``scale`` leads away from it (arXiv 2105.05233, on x_0).

    The step is normalised and grows as the noise falls: ``scale (1 - time)`` latent vectors (see :func:`ascend`).
    """

    score: Score
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not isfinite(self.scale):
            raise ConfigError(f"the guide's scale is {self.scale}; give a number, such as 1, or -1 to lead away")

    def __call__(self, clean: Latents, time: float) -> Latents:
        return ascend(self.score, clean, self.scale * (1 - time))

    def select(self, rows: slice) -> "ByGradient":
        """The same: the score sees each text alone."""
        return self
