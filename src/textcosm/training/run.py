"""One call of ``train``: what its parts share, how it is asked to stop, and what lets a folder go on."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from textcosm.text.backbone import Backbone
from textcosm.training.cache import Stopped, check_settings
from textcosm.training.fit import FitConfig, Stage, StepReport, fit, seed_of
from textcosm.training.recipe import Recipe
from textcosm.training.state import STATE_FILE, read_header


@dataclass(frozen=True)
class Run:
    """One call of ``train``: what all its parts need to know."""

    recipe: Recipe
    data: str
    out: Path
    cache: Path
    backbone: Backbone
    device: torch.device
    stop: Callable[[], bool]
    tensorboard: bool


@contextmanager
def stop_requests(max_seconds: float | None) -> Iterator[Callable[[], bool]]:
    """A function that turns True when time is up or the process is asked to end; a second request ends it at once."""
    end = None if max_seconds is None else time.monotonic() + max_seconds
    asked: list[int] = []

    def on_signal(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    in_main = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, on_signal) for n in (signal.SIGINT, signal.SIGTERM)} if in_main else {}
    try:
        yield lambda: bool(asked) or (end is not None and time.monotonic() >= end)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def fit_stage(run: Run, stage: Stage, config: FitConfig, folder: Path) -> Iterator[StepReport]:
    """Fit in ``folder`` with the run's seed; a stop ends the whole run, not this stage alone."""
    finished = yield from fit(stage, config, folder, seed=run.recipe.seed, stop=run.stop, tensorboard=run.tensorboard)
    if not finished:
        raise Stopped


def is_done(folder: Path, config: FitConfig) -> bool:
    """Whether the stage that trains in ``folder`` has made all its steps."""
    path = folder / STATE_FILE
    return path.exists() and int(read_header(path)["step"]) >= config.steps


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """The first call writes its settings into ``folder``; later ones must agree."""
    path = folder / "settings.json"
    if (folder / STATE_FILE).exists() and path.exists():
        check_settings(folder, settings, json.loads(path.read_text(encoding="utf-8")))
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")


@contextmanager
def seeded(run: Run, name: str) -> Iterator[None]:
    """Weights start the same for the same seed, and nobody else's random numbers move."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(run.recipe.seed, name, "weights"))
        yield


def has_room(device: torch.device, size: int) -> bool:
    """Whether ``device`` is a GPU that can keep ``size`` bytes and still train."""
    return device.type == "cuda" and size < 0.4 * torch.cuda.mem_get_info(device)[0]
