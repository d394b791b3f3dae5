"""Best of k by the model itself: of several candidates, the one that its denoiser knows best."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from textcosm.diffusion.schedule import TanSchedule
from textcosm.errors import ConfigError
from textcosm.shapes import Latents, Times

T = TypeVar("T")
TIME = 0.2
"""Where the error tells most of how well a text reads (docs/log.md)."""
DRAWS = 4


@torch.no_grad()
def denoising_error(
    denoise: Callable[[Latents, Times], Latents], schedule: TanSchedule, latents: Latents, time: float = TIME
) -> Float[Tensor, " batch"]:
    """The share of each text's latents that the guess from noise misses: squared error over squares, from 0 to about 1.

    Latents are normalised, ``(batch, N, width)``; they are noised to ``time`` with the same few noises for all. The error
    alone is a bound on what the text costs the model (arXiv 2107.00630), but short texts, of small latents, cost less:
    over their squares it is one of the text's sense.
    """
    noises = torch.randn(DRAWS, 1, *latents.shape[1:], generator=torch.Generator().manual_seed(0)).to(latents)
    alpha, sigma = schedule.alpha(time).to(latents), schedule.sigma(time).to(latents)
    times = torch.full((len(latents),), time, device=latents.device)
    missed = sum((denoise(alpha * latents + sigma * noise, times) - latents).square().mean((1, 2)) for noise in noises)
    return missed / DRAWS / latents.square().mean((1, 2))


def least(candidates: Sequence[Sequence[T]], errors: Sequence[Sequence[float]]) -> list[T]:
    """Row by row, of all candidates that with the least error, the first of equals; both are ``(candidates, rows)``."""
    rows = zip(zip(*candidates, strict=True), zip(*errors, strict=True), strict=True)
    return [several[found.index(min(found))] for several, found in rows]


def check_best(best: int, mbr: int = 1) -> None:
    """Raises ConfigError below 1 candidate, and for two ways of choosing."""
    if best < 1:
        raise ConfigError(f"best is {best}; choose among at least 1 candidate, such as 8")
    if best > 1 and mbr > 1:
        raise ConfigError(f"best = {best} and mbr = {mbr} both choose among candidates: give one of them")
