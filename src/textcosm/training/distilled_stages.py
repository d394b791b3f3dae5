"""How a student learns to take in one step what its teacher takes in several: progressive and consistency distillation."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from textcosm.config import Config
from textcosm.diffusion.denoiser import Denoiser, Memory
from textcosm.diffusion.guidance import told_of_sources
from textcosm.diffusion.process import Shares, moved
from textcosm.diffusion.schedule import TanSchedule
from textcosm.latent.normaliser import Normaliser
from textcosm.shapes import Latents
from textcosm.training.flop import matrix_numbers, training_flop
from textcosm.training.stages import DiffusionStage, Sources

Method = Literal["progressive", "consistency"]
Places = Int[Tensor, " batch"]
"""Where each sample stands: the number of one of the lesson's times."""

LARGEST_WEIGHT = 5.0
"""Of a sample's error: near time 0 the signal outweighs the noise a thousandfold, and would drown the other times
(Min-SNR, arXiv 2303.09556)."""
KEPT, KEPT_TIMES = 10, 4
"""Every tenth row keeps the teacher's guess at one of four times below the student's last: rewriting begins there, and
texts are refined there, though no walk from noise comes so far."""


@dataclass(frozen=True)
class Lesson:
    """A walk of the teacher that the student learns to take in steps ``stride`` times as long.

    times: those of the teacher, from 1 down to where its x_0 is the result; their number is a multiple of ``stride``.
    """

    times: tuple[float, ...]
    stride: int = 2
    method: Method = "progressive"

    @property
    def visit(self) -> tuple[float, ...]:
        """The student's own times. At the last of them it says what the teacher says at the last of its."""
        return self.times[:: self.stride]

    def shares(self, schedule: TanSchedule) -> list[float]:
        """The share of the teacher's first guess in the target at each time; the rest is the guess at the next time.

        A step to the student's next time ``b``, by way of the teacher's next time ``s``, arrives where one of the x_0
        ``((u_s - u_t) first + (u_b - u_s) second) / (u_b - u_t)`` does, with ``u = alpha / sigma``: no step is inverted.
        After the student's last time comes x_0 itself, so that only the second guess counts.
        """
        ratio = [float(schedule.alpha(t) / schedule.sigma(t)) if t > 0 else float("inf") for t in self.times]
        shares: list[float] = []
        for i in range(len(ratio)):
            end = (i // self.stride + 1) * self.stride
            inner = (ratio[min(i + 1, end)] - ratio[i]) / (ratio[end] - ratio[i]) if end < len(ratio) else 0.0
            shares.append(inner if i + 1 < len(ratio) else 1.0)
        return shares


class DistillationStage(DiffusionStage):
    """Learn the teacher's walk on the latents, sources and batches of a DiffusionStage, with its plain error of x_0.

    The target is the x_0 that takes one step of the student where two guesses lead: the teacher's here and, one of its
    own steps on, a second one. That is the teacher's again in progressive distillation (arXiv 2202.00512), which halves
    the steps; in consistency distillation, whose steps are any number of the teacher's, it is the student's own, held
    fixed (arXiv 2403.06807, with segments as steps; an average of the student is not needed, arXiv 2310.14189).

    What both see beside the noisy latents is distilled as well. A sample stands where one step of the student leads
    from its time before, with its x_0 from there as the self-condition: as in the walk, at all times but the first.
    Real noise here beside a guess from another time would give x_0 away: two views of one text with the same noise.
    """

    def __init__(
        self,
        student: Denoiser,
        teacher: Denoiser,
        lesson: Lesson,
        config: Config,
        normaliser: Normaliser,
        train: Tensor,
        valid: Tensor,
        batch_size: int,
        seed: int = 0,
        sources: tuple[Sources | None, Sources | None] = (None, None),
        guidance: float = 1.0,
    ):
        """guidance: the weight of the source in the teacher's guesses, which the student learns to do without."""
        self.name, self.lesson, self.guidance = f"{len(lesson.visit)} steps", lesson, guidance
        super().__init__(student, config, normaliser, train, valid, batch_size, seed, *sources)
        self.teacher = teacher.eval().requires_grad_(False)
        schedule = config.schedule
        earliest, last = config.diffusion_objective.min_time, lesson.visit[-1]
        below = torch.linspace(min(earliest, last), last, KEPT_TIMES + 1, dtype=torch.float64)[:-1]
        times = torch.cat((torch.tensor(lesson.times, dtype=torch.float64), below))
        self.times, self.alpha, self.sigma, self.weights, self.shares = (
            column.float().to(self.device)
            for column in (
                times,
                schedule.alpha(times),
                schedule.sigma(times),
                schedule.log_snr(times).exp().clamp(1, LARGEST_WEIGHT),  # truncated SNR (arXiv 2202.00512)
                torch.tensor([*lesson.shares(schedule), *KEPT_TIMES * [1.0]]),
            )
        )

    def _flop(self) -> float:
        """Of one text: the student forward and backward, its own guess before, two guesses for the target; two readings."""
        reading = 0 if self.module.source is None else matrix_numbers(self.module.source)
        doubled = 0 if self.guidance == 1 else 2 if self.lesson.method == "progressive" else 1
        forward_only = 3 + doubled - self.lesson.stride / len(self.lesson.times)
        found = training_flop(matrix_numbers(self.module) - reading, self.train.shape[1], forward_only)
        if self.train_sources is not None:
            found += training_flop(reading, float(self.train_sources.store.lengths.float().mean()), 1)
        return found

    def _loss(self, raw: Tensor, sources: Sources | None, indices: Tensor) -> Tensor:
        clean = self.normaliser.normalise(raw[indices].to(self.device).float())
        noise = torch.randn(clean.shape, generator=self.generator, device=self.device)
        places = self._places(len(clean))
        memory, teachers = self._memories(sources, indices)
        noisy, guess = self._start(clean, noise, places, memory)
        target = self._target(noisy, guess, places, memory, teachers)
        found = told_of_sources(self.module, memory)(noisy, self.times[places], guess)
        error = (found.float() - target).square().mean((1, 2))
        return (self.weights[places] * error).mean()

    def _places(self, n: int) -> Places:
        """The student's times, or in consistency distillation all, evenly spread over the rows after those that are kept.

        Those without a self-condition come first: the kept ones, then those of the first step.
        """
        apart, walk = self.lesson.stride if self.lesson.method == "progressive" else 1, len(self.lesson.times)
        kept = n // KEPT
        uniform = torch.rand(1, generator=self.generator, device=self.device)
        below = walk + (torch.arange(kept, device=self.device) + (uniform * KEPT_TIMES).long()) % KEPT_TIMES
        strata = (torch.arange(n - kept, device=self.device) + uniform) / (n - kept)
        return torch.cat((below, (strata * (walk // apart)).long().clamp(max=walk // apart - 1) * apart))

    def _memories(self, sources: Sources | None, indices: Tensor) -> tuple[Memory | None, Memory | None]:
        """The sources as the student and as the teacher read them; some rows see none, so that both ways are kept."""
        if sources is None:
            return None, None
        hidden = torch.rand(len(indices), generator=self.generator, device=self.device)
        hidden = hidden < self.config.diffusion_objective.source_drop_probability
        with torch.no_grad():
            teachers = sources.memory(self.teacher, indices.cpu(), self.device)
        return sources.memory(self.module, indices.cpu(), self.device).without(hidden), teachers.without(hidden)

    @torch.no_grad()
    def _start(
        self, clean: Latents, noise: Latents, places: Places, memory: Memory | None
    ) -> tuple[Latents, Latents | None]:
        """The noisy latents and the self-condition of each row; zeros are the same as none."""
        stride = self.lesson.stride
        free = (places < stride) | (places >= len(self.lesson.times))
        first = int(free.sum())
        before = torch.where(free, places, places - stride)
        alpha, sigma = self._at(before)
        noisy = alpha * clean + sigma * noise
        if first == len(clean):
            return noisy, None
        rows = slice(first, None)
        student = told_of_sources(self.module, None if memory is None else memory[rows])
        last = student(noisy[rows], self.times[before[rows]], None).float()
        there = moved(noisy[rows], last, self._at(before[rows]), self._at(places[rows]))
        return torch.cat((noisy[:first], there)), torch.cat((torch.zeros_like(noisy[:first]), last))

    @torch.no_grad()
    def _target(
        self, noisy: Latents, guess: Latents | None, places: Places, memory: Memory | None, teachers: Memory | None
    ) -> Latents:
        teacher = told_of_sources(self.teacher, teachers, self.guidance)
        first = teacher(noisy, self.times[places], guess).float()
        following = torch.where(places + 1 < len(self.lesson.times), places + 1, places)
        there = moved(noisy, first, self._at(places), self._at(following))
        if self.lesson.method == "progressive":
            second = teacher(there, self.times[following], first)
        else:
            second = told_of_sources(self.module, memory)(there, self.times[following], guess)
        return torch.lerp(second.float(), first, self.shares[places][:, None, None])

    def _at(self, places: Places) -> Shares:
        """Signal and noise of each row."""
        return self.alpha[places][:, None, None], self.sigma[places][:, None, None]
