"""Training seen from outside: a bar for each stage on a terminal, a plain line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from textcosm.training.fit import StepReport

SECONDS_BETWEEN_LINES = 10.0
Report = Callable[[StepReport], None]


@contextmanager
def showing(console: Console) -> Iterator[Report]:
    """What to call with every report of a training run."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (TextColumn("{task.description:<16}"), BarColumn(30), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=console) as progress:
        yield Bars(progress)


class Bars:
    """One bar a stage, with the loss, the throughput and the time left."""

    def __init__(self, progress: Progress):
        self.progress = progress
        self.tasks = {}

    def __call__(self, report: StepReport) -> None:
        if report.stage not in self.tasks:
            self.tasks[report.stage] = self.progress.add_task(report.stage, state="")
        total = report.steps or None  # None: a bar that only pulses, where the end is not known
        task = self.tasks[report.stage]
        self.progress.update(task, completed=report.step, total=total, state=describe(report))


class Lines:
    """One line every ten seconds, at validations and at the end of a stage."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic):
        self.console, self.clock = console, clock
        self.last = -SECONDS_BETWEEN_LINES

    def __call__(self, report: StepReport) -> None:
        notable = report.step == report.steps or any(name.startswith("valid_") for name in report.metrics)
        if notable or self.clock() - self.last >= SECONDS_BETWEEN_LINES:
            self.last = self.clock()
            print(f"{report.stage}  {describe(report)}", file=self.console.file, flush=True)


def describe(report: StepReport) -> str:
    """``1200/6000  loss 1.234  accuracy 0.800  345 texts/s  0:12:30 left``."""
    count = f"{report.step}/{report.steps}" if report.steps else f"{report.step}"
    shown = [
        f"{name.replace('_', ' ')} {value:.4g}" for name, value in report.metrics.items() if name != "gradient_norm"
    ]
    parts = [count, *shown, f"{report.texts_per_second:,.0f} texts/s"]
    if report.seconds_left > 0:
        parts.append(f"{clock_time(report.seconds_left)} left")
    return "  ".join(parts)


def clock_time(seconds: float) -> str:
    """``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
