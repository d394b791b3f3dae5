"""How much signal and how much noise there is at each time: the tan-d schedule (arXiv 2506.21170)."""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Float
from torch import Tensor

from textcosm.errors import ConfigError

Real = float | Float[Tensor, "..."]
"""A number or a tensor of numbers; a number is computed in float64."""

EARLIEST, LATEST = 1e-5, 1 - 1e-4
"""Times are clipped to this range where the log-SNR would be infinite."""
BETA_LATEST = 0.95
"""beta diverges at t = 1; times above this get beta(0.95), as in the reference implementation."""


@dataclass(frozen=True)
class TanSchedule:
    """Variance preserving: ``x_t = alpha(t) x_0 + sigma(t) noise`` with ``alpha = 1 / sqrt(1 + d^2 tan^2(pi t / 2))``.

    Time runs from 0 (clean) to 1 (noise). A larger ``d`` adds the noise earlier. Every method takes a number or a
    tensor of any shape, and returns a tensor of that shape.
    """

    d: float = 5.0

    def __post_init__(self) -> None:
        if not self.d > 0:
            raise ConfigError(f"schedule d = {self.d} must be above 0; the paper uses 5 for 16 latents and 7 for 64")

    def alpha(self, time: Real) -> Float[Tensor, "..."]:
        """Share of signal, 1 at time 0 and 0 at time 1; written with cos and sin, because tan(pi / 2) is infinite."""
        cos, scaled_sin = self._parts(time)
        return cos / torch.hypot(cos, scaled_sin)

    def sigma(self, time: Real) -> Float[Tensor, "..."]:
        """Share of noise, ``sqrt(1 - alpha^2)``."""
        cos, scaled_sin = self._parts(time)
        return scaled_sin / torch.hypot(cos, scaled_sin)

    def log_snr(self, time: Real) -> Float[Tensor, "..."]:
        """``log(alpha^2 / sigma^2)``, falling with time; the time is clipped to [EARLIEST, LATEST] to stay finite."""
        cos, scaled_sin = self._parts(_tensor(time).clamp(EARLIEST, LATEST))
        return 2 * (cos.log() - scaled_sin.log())

    def time_of_log_snr(self, log_snr: Real) -> Float[Tensor, "..."]:
        """The inverse of :meth:`log_snr` (away from its clipped ends)."""
        return torch.atan(torch.exp(_tensor(log_snr) / -2) / self.d) * (2 / pi)

    def beta(self, time: Real) -> Float[Tensor, "..."]:
        """Rate of noise, ``-d log(alpha^2) / dt``, of the forward equation; the time is clipped to BETA_LATEST."""
        tan = torch.tan(_tensor(time).clamp(max=BETA_LATEST) * (pi / 2))
        return pi * self.d**2 * tan * (1 + tan**2) / (1 + self.d**2 * tan**2)

    def _parts(self, time: Real) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        angle = _tensor(time) * (pi / 2)
        # float32 rounds cos(pi / 2) to -4e-8: a share of signal is never negative.
        return torch.cos(angle).clamp(min=0), self.d * torch.sin(angle)


def _tensor(value: Real) -> Float[Tensor, "..."]:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
