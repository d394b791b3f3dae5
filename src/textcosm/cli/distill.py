"""``textcosm distill``: from a training run to a student of few steps."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.cli.options import Device, parse_and_run
from textcosm.cli.train import INTERRUPTED, note
from textcosm.training.distill import DISTILLATION_FIT, DistillConfig
from textcosm.training.distill import distill as distill_run
from textcosm.training.distilled_stages import Method
from textcosm.training.fit import FitConfig


def run(arguments: list[str]) -> int:
    return parse_and_run(distill, "distill", arguments)


def distill(
    run: Annotated[
        Positional[Path], arg(metavar="RUN", help="The folder of a training run: the teacher, and what it was trained on.")
    ],
    /,
    out: Annotated[Path, arg(metavar="DIR", help="The student's folder; the same command goes on where it stopped.")],
    steps: Annotated[int, arg(metavar="K", help="Of the student, from noise to text: 1 to 16.")] = 8,
    method: Annotated[
        Method,
        arg(help="Halve the teacher's steps again and again, or learn in one go to be of one mind along each step."),
    ] = "progressive",
    guidance: Annotated[
        float | None,
        arg(
            metavar="W",
            help="Weight of the source in what the student imitates, which then needs no second pass for it.",
            help_behavior_hint="(default: the teacher's own)",
        ),
    ] = None,
    anyway: Annotated[bool, arg(help="Take a teacher whose training has not ended.")] = False,
    device: Device = None,
    cache: Annotated[
        Path | None,
        arg(
            metavar="DIR",
            help="Where the run keeps its sources, if texts answer any.",
            help_behavior_hint="(default: RUN/cache)",
        ),
    ] = None,
    max_seconds: Annotated[
        float | None,
        arg(metavar="S", help="Stop after so long, with everything saved.", help_behavior_hint="(default: never)"),
    ] = None,
    tensorboard: Annotated[bool, arg(help="Write TensorBoard files beside the journals.")] = False,
    seed: Annotated[int, arg(metavar="S", help="Of order and noise.")] = 0,
    fit: FitConfig = DISTILLATION_FIT,
) -> int:
    """Teach a student to write in a few steps what a trained model writes in many. Resumes with the same command."""
    from rich.console import Console

    from textcosm.cli.progress import showing

    config = DistillConfig(steps, method, guidance, fit, seed)
    with showing(Console(stderr=True)) as report:
        result = distill_run(
            run, out, config, anyway=anyway, report=report, max_seconds=max_seconds, device=device, cache=cache,
            tensorboard=tensorboard,
        )  # fmt: skip
    for line in result.notes:
        note(line)
    if not result.finished:
        note("stopped before the end, with everything saved; the same command goes on from here")
        return 0 if max_seconds is not None else INTERRUPTED
    note(f"the student of {steps} steps is in {result.model}; see it with: textcosm generate --model {out}")
    return 0
