"""What a solver may know: where it is, and the three things that it may ask."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from textcosm.diffusion.schedule import TanSchedule
from textcosm.shapes import Latents

Denoise = Callable[[Latents, float, Latents | None], Latents]
"""``(noisy, time, self_condition) -> clean``: one pass of the network, all samples at the same time."""
Draw = Callable[[], Latents]
"""Fresh Gaussian noise in the shape of the latents, sample by sample from its own seed."""
Shares = tuple[float, float] | tuple[Float[Tensor, "batch 1 1"], Float[Tensor, "batch 1 1"]]
"""alpha and sigma at a time, or at a time for each sample."""


@dataclass(frozen=True)
class Point:
    """A place on the way: the latents at ``time`` and the network's estimate ``clean`` of x_0 there."""

    time: float
    noisy: Latents
    clean: Latents


@dataclass(frozen=True)
class ReverseProcess:
    """The schedule, the network and a source of noise; and the four numbers and two formulas built from them."""

    schedule: TanSchedule
    denoise: Denoise
    draw: Draw

    def alpha(self, time: float) -> float:
        """Share of signal at ``time``."""
        return self.schedule.alpha(time).item()

    def sigma(self, time: float) -> float:
        """Share of noise at ``time``."""
        return self.schedule.sigma(time).item()

    def beta(self, time: float) -> float:
        """Rate of noise at ``time`` (clipped near 1, see schedule.py)."""
        return self.schedule.beta(time).item()

    def log_snr(self, time: float) -> float:
        """``log(alpha^2 / sigma^2)`` at ``time`` (clipped at both ends, see schedule.py)."""
        return self.schedule.log_snr(time).item()

    def noised(self, clean: Latents, time: float) -> Latents:
        """``clean`` with fresh noise, as it is at ``time``."""
        return self.alpha(time) * clean + self.sigma(time) * self.draw()

    def move(self, noisy: Latents, clean: Latents, time: float, target: float) -> Latents:
        """Solve the probability-flow equation from ``time`` to ``target`` exactly for an x_0 that stays ``clean``."""
        return moved(noisy, clean, (self.alpha(time), self.sigma(time)), (self.alpha(target), self.sigma(target)))


def moved(noisy: Latents, clean: Latents, here: Shares, there: Shares) -> Latents:
    """The probability flow from ``here`` to ``there``, each the shares of signal and noise, for an x_0 that stays ``clean``.

    With ``u = alpha / sigma`` it reads ``d(x / sigma) = x_0 du``; this form stays finite at time 1 and at time 0.
    """
    shrink = there[1] / here[1]
    return shrink * noisy + (there[0] - shrink * here[0]) * clean
