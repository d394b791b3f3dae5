"""The only loop over time: from noise to latents, yielding every point on the way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from math import inf
from typing import Literal

import torch

from textcosm.diffusion.denoiser import Memory
from textcosm.diffusion.guidance import Guide, Network, told_of_sources
from textcosm.diffusion.process import Denoise, Draw, Point, ReverseProcess
from textcosm.diffusion.schedule import TanSchedule
from textcosm.diffusion.solvers import Solver, open_solver
from textcosm.errors import ConfigError
from textcosm.shapes import Latents


@dataclass(frozen=True)
class SamplerConfig:
    """How to sample. The reference sampler is ``SamplerConfig(200, "euler-maruyama", 0.05, "mean", "uniform")``.

    steps: points on the way, one pass of the network each (Heun: two).
    end_time: where the walk stops; below it the network sees almost clean latents and only copies them.
    final: "clean" returns the network's x_0 at ``end_time``; "mean" the last step without its noise, as the reference.
    grid: times evenly spaced ("uniform") or evenly spaced in log-SNR, which puts more of them near both ends.
    guidance: weight of the source (classifier-free guidance): 1 is the network's own guess, 0 forgets the source, above 1
        exaggerates it, at the cost of a second pass in the same batch.
    refinements: how often a text that is done is decoded, encoded again, noised to ``refine_time``, and guessed anew in one
        pass. Between two guesses stands a text, whose latents are whole again: noise alone does not mend them (docs/log.md).
        Needs the frozen encoder.
    lm_weight: how much the words of a new text owe to what follows what in the training texts, beside what the decoder
        knows of each place (control/fusion.py): 0 is the decoder alone, as published; 1 is Bayes' rule, and usual.
    visit: the times that a distilled network was taught, from 1 down to where its x_0 is the result; they are its grid
        where ``steps`` is their number. Empty for a network that is at home at any time.
    """

    steps: int = 50
    solver: str = "dpm++2m"
    end_time: float = 0.05
    final: Literal["clean", "mean"] = "clean"
    grid: Literal["uniform", "log-snr"] = "uniform"
    guidance: float = 1.0
    refinements: int = 0
    refine_time: float = 0.2
    lm_weight: float = 0.0
    visit: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps = {self.steps} is below 1; ask for at least one step, such as 50")
        if not 0 <= self.end_time < 1:
            raise ConfigError(f"end_time = {self.end_time} is outside [0, 1); the usual value is 0.05")
        if self.final not in ("clean", "mean"):
            raise ConfigError(f"final = {self.final!r} is unknown; choose clean or mean")
        if self.grid not in ("uniform", "log-snr"):
            raise ConfigError(f"grid = {self.grid!r} is unknown; choose uniform or log-snr")
        if not 0 <= self.guidance < inf:
            raise ConfigError(f"guidance = {self.guidance} is no number from 0 up; 1 is none, 1.5 to 3 are usual")
        if self.refinements < 0:
            raise ConfigError(f"refinements = {self.refinements} is below 0; 0 is none, 4 are usual")
        if not 0 < self.refine_time < 1:
            raise ConfigError(f"refine_time = {self.refine_time} is outside (0, 1); the usual value is 0.2")
        if not 0 <= self.lm_weight < inf:
            raise ConfigError(f"lm_weight = {self.lm_weight} is no number from 0 up; 0 is none, 1 is usual")
        if self.visit and self.final != "clean":
            raise ConfigError(f"final = {self.final!r} needs a time beyond the last of visit; set final = clean")
        if self.visit and (self.visit[0] != 1 or self.visit[-1] < 0 or any(s >= t for t, s in pairwise(self.visit))):
            raise ConfigError(f"visit = {self.visit} does not fall from 1 towards 0; leave it as the distillation wrote it")
        open_solver(self.solver)

    @property
    def refinement(self) -> "SamplerConfig":
        """The one pass of a refinement."""
        return replace(self, steps=1, end_time=self.refine_time, final="clean", visit=())

    @property
    def is_taught(self) -> bool:
        """Whether the walk is the very one that a distilled network was taught."""
        return len(self.visit) == self.steps

    @property
    def note(self) -> str | None:
        """What a reader must know of a distilled network that walks in other steps than it was taught."""
        if not self.visit or self.is_taught:
            return None
        return f"distilled for {len(self.visit)} steps; {self.steps} were asked for"

    def times(self, schedule: TanSchedule, start: float = 1.0) -> list[float]:
        """The times to visit, from ``start`` down to ``end_time``: ``steps`` of them, and one more for a mean at the end.

        A log-SNR grid from 1 has its second time, the first of the even spacing, at LOG_SNR_START. A start below
        ``end_time`` is the only time. Where the steps were taught, they are those at the start and below it.
        """
        if self.is_taught:
            return [start, *(time for time in self.visit if time < start)]
        if start <= self.end_time:
            return [start]
        count = self.steps + (self.final == "mean")
        first, end = schedule.log_snr(start).item(), schedule.log_snr(self.end_time).item()
        if self.grid == "uniform" or count < 3 or end <= LOG_SNR_START:
            return torch.linspace(start, self.end_time, count, dtype=torch.float64).tolist()
        if first < LOG_SNR_START:
            between = torch.linspace(LOG_SNR_START, end, count - 1, dtype=torch.float64)[:-1]
        else:
            between = torch.linspace(first, end, count, dtype=torch.float64)[1:-1]
        return [start, *schedule.time_of_log_snr(between).tolist(), self.end_time]


LOG_SNR_START = -9.0
"""Signal below this is lost in the noise: log(1 / 8000), one part in as many as a text's latents have numbers."""


def seeds_of(seed: int, n: int, candidate: int = 0) -> list[int]:
    """A seed for each of ``n`` samples; sample i gets the same one whatever ``n`` is, and no two are equal.

    candidate: which of several drafts of every sample; 0 is the only one where there is one.
    """
    name = f"{seed}, candidate {candidate}" if candidate else str(seed)
    digest = blake2b(name.encode(), digest_size=4).digest()
    # The CPU generator of torch uses 32 bits of a seed: consecutive numbers cannot collide, hashes of (seed, i) can.
    return [(int.from_bytes(digest, "little") + i) % 2**32 for i in range(n)]


def later_seeds(seeds: Sequence[int], number: int) -> list[int]:
    """For another walk of the same samples, the ``number``-th from 0: each from its own seed alone."""
    return [(seed + (number + 1) * GOLDEN) % 2**32 for seed in seeds]


GOLDEN = 0x9E3779B1
"""2^32 over the golden ratio, odd: its multiples lie far apart, and so do the seeds that they are added to."""


def noise_source(seeds: Sequence[int], shape: tuple[int, int], device: torch.device | str = "cpu") -> Draw:
    """Gaussian noise ``(len(seeds), *shape)`` at each call; row i depends on ``seeds[i]`` alone, on every device."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]  # on the CPU: devices draw differently

    def draw() -> Latents:
        return torch.stack([torch.randn(shape, generator=generator) for generator in generators]).to(device)

    return draw


def trajectory(
    denoise: Callable[..., Latents],
    schedule: TanSchedule,
    config: SamplerConfig,
    seeds: Sequence[int],
    shape: tuple[int, int],
    device: torch.device | str = "cpu",
    memory: Memory | None = None,
    solver: Solver | None = None,
    guides: Sequence[Guide] = (),
    start: Latents | None = None,
    start_time: float = 1.0,
) -> Iterator[Point]:
    """Walk from noise to normalised latents: yields ``config.steps`` points; the last one's ``clean`` is the result.

    denoise: ``(noisy, time, self_condition) -> clean`` such as a Denoiser; called with ``memory=`` where one is given.
    seeds: one per sample, from :func:`seeds_of`. shape: ``(slots, latent width)``.
    solver: one from outside, instead of the one that ``config`` names.
    guides: each moves every guess of x_0, in this order, before the solver or the next guess sees it.
    start: clean normalised latents, one for each seed, to begin from instead of pure noise: they are noised to
        ``start_time`` with the noise of their seed, and walked from there to ``end_time`` (at least one point).
    Raises ConfigError where there is nothing to sample, and for a start or guidance that cannot be.
    """
    if not seeds:
        raise ConfigError("0 samples were asked for; ask for at least 1")
    _check_start(start, start_time, (len(seeds), *shape))
    solver = solver or open_solver(config.solver)
    draw = noise_source(seeds, shape, device)
    process = ReverseProcess(schedule, _at_one_time(told_of_sources(denoise, memory, config.guidance), guides), draw)
    times = config.times(schedule, start_time)
    noisy, past = draw() if start is None else process.noised(start.to(device), start_time), None
    for time, target in pairwise(times):
        now = Point(time, noisy, process.denoise(noisy, time, past.clean if past else None))
        if config.final == "mean" and target == times[-1]:
            mean = solver.step(replace(process, draw=partial(torch.zeros_like, noisy)), now, target, past)
            yield Point(target, mean, mean)
            return
        yield now
        noisy, past = solver.step(process, now, target, past), now
    yield Point(times[-1], noisy, process.denoise(noisy, times[-1], past.clean if past else None))


def _check_start(start: Latents | None, start_time: float, shape: tuple[int, ...]) -> None:
    if not 0 <= start_time <= 1:
        raise ConfigError(f"start_time = {start_time} is outside [0, 1]; 1 is pure noise")
    if start is None and start_time != 1:
        raise ConfigError(f"start_time = {start_time} is for latents to start from, and there are none: give a start")
    if start is not None and tuple(start.shape) != shape:
        raise ConfigError(f"the start is {tuple(start.shape)}; this walk takes {shape}: one for each sample")


def _at_one_time(network: Network, guides: Sequence[Guide]) -> Denoise:
    """Let a solver give one time as a number, where the network takes a tensor with one time per sample."""

    @torch.no_grad()
    def at(noisy: Latents, time: float, self_condition: Latents | None) -> Latents:
        clean = network(noisy, torch.full(noisy.shape[:1], time, device=noisy.device), self_condition)
        for guide in guides:
            clean = guide(clean, time)
        return clean

    return at
