"""The ways to walk from noise to text: each takes one step of the reverse process (a seam: write your own outside).

A solver is a frozen dataclass without state. Everything that it needs comes with the call: the process, the point
where it is, the time to reach, and the point before. Orders of convergence are tested in tests/diffusion; the two
Euler methods in time have theirs below time 0.95, above which the schedule's rate is clipped, as in the reference.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Protocol, runtime_checkable

from textcosm.diffusion.process import Point, ReverseProcess
from textcosm.errors import ConfigError
from textcosm.shapes import Latents


@runtime_checkable
class Solver(Protocol):
    """Walks from one time to an earlier one."""

    def step(self, process: ReverseProcess, now: Point, s: float, past: Point | None) -> Latents:
        """The latents at time ``s < now.time``, given the point before ``now`` (None at the first step)."""
        ...


@dataclass(frozen=True)
class EulerMaruyama:
    """The reference sampler: Euler on the reverse stochastic equation in time (weak order 1)."""

    def step(self, process: ReverseProcess, now: Point, s: float, past: Point | None) -> Latents:
        beta, dt = process.beta(now.time), now.time - s
        slope = -0.5 * beta * now.noisy - beta * _score(process, now)
        return now.noisy - slope * dt + sqrt(beta * dt) * process.draw()


@dataclass(frozen=True)
class ProbabilityFlowEuler:
    """Euler on the probability-flow equation in time (order 1): the reference sampler without its noise."""

    def step(self, process: ReverseProcess, now: Point, s: float, past: Point | None) -> Latents:
        slope = -0.5 * process.beta(now.time) * (now.noisy + _score(process, now))
        return now.noisy - slope * (now.time - s)


@dataclass(frozen=True)
class DDIM:
    """Exact for a constant x_0, no noise (order 1; arXiv 2010.02502, eq. 12 with sigma = 0)."""

    def step(self, process: ReverseProcess, now: Point, s: float, past: Point | None) -> Latents:
        return process.move(now.noisy, now.clean, now.time, s)


@dataclass(frozen=True)
class DDPM:
    """Ancestral sampling: draw from q(x_s | x_t, x_0) with the estimated x_0 (weak order 1; 2006.11239, eq. 7)."""

    def step(self, process: ReverseProcess, now: Point, s: float, past: Point | None) -> Latents:
        ratio = process.alpha(now.time) / process.alpha(s)
        share = (process.sigma(s) / process.sigma(now.time)) ** 2
        fresh = process.sigma(now.time) ** 2 - (ratio * process.sigma(s)) ** 2  # variance that t has and s has not
        mean = ratio * share * now.noisy + process.alpha(s) * (1 - ratio**2 * share) * now.clean
        return mean + sqrt(share * fresh) * process.draw()


@dataclass(frozen=True)
class Heun:
    """Try the DDIM step, ask the network again at its end, go with the mean of both answers (order 2, two passes).

    It is the explicit trapezoid rule for ``d(x / sigma) = x_0 d(alpha / sigma)``.
    """

    def step(self, process: ReverseProcess, now: Point, s: float, past: Point | None) -> Latents:
        there = process.move(now.noisy, now.clean, now.time, s)
        clean = process.denoise(there, s, now.clean)
        return process.move(now.noisy, (now.clean + clean) / 2, now.time, s)


@dataclass(frozen=True)
class DPMSolverMultistep:
    """Extrapolate x_0 in log-SNR from the last two points (order 2, one pass; DPM-Solver++ 2M, arXiv 2211.01095)."""

    def step(self, process: ReverseProcess, now: Point, s: float, past: Point | None) -> Latents:
        here = process.log_snr(now.time)
        behind = here - process.log_snr(past.time) if past else 0.0
        if past is None or behind == 0:  # the first step, or two times so near 1 that both are clipped
            return process.move(now.noisy, now.clean, now.time, s)
        # No further than for a step twice as long as the last: towards time 0 the log-SNR has no end.
        ahead = min(1.0, (process.log_snr(s) - here) / behind / 2)
        return process.move(now.noisy, now.clean + ahead * (now.clean - past.clean), now.time, s)


SOLVERS: dict[str, type[Solver]] = {
    "euler-maruyama": EulerMaruyama,
    "pf-euler": ProbabilityFlowEuler,
    "ddim": DDIM,
    "ddpm": DDPM,
    "heun": Heun,
    "dpm++2m": DPMSolverMultistep,
}


def open_solver(name: str) -> Solver:
    """The solver called ``name``; ConfigError lists the names there are."""
    if name not in SOLVERS:
        raise ConfigError(f"solver {name!r} is unknown; choose one of: {', '.join(SOLVERS)}")
    return SOLVERS[name]()


def _score(process: ReverseProcess, now: Point) -> Latents:
    """Gradient of the log density, from x_0 (Tweedie): ``(alpha x_0 - x_t) / sigma^2``."""
    return (process.alpha(now.time) * now.clean - now.noisy) / process.sigma(now.time) ** 2
