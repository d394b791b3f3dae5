"""One call of training, of a model or of a rival: how it begins, is asked to stop, ends and goes on."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import torch

from textcosm.pipeline import best_device
from textcosm.text.backbone import Backbone, open_backbone
from textcosm.training.cache import Stopped, check_settings, read_meta
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


@dataclass(frozen=True)
class TrainResult:
    """What a call reached. Not finished: the same call goes on."""

    finished: bool
    directory: Path
    model: Path | None
    """The folder of the model, once there is one."""
    texts: int
    """Training texts."""
    cut: int
    """Training texts that were longer than the model's length, and were cut."""
    sources_cut: int = 0
    """Of the sources that the training texts answer (one each), those that were longer than ``source.max_length``."""
    left_out: int = 0
    """Pairs with an empty source or without an answer."""


class RunOptions(TypedDict, total=False):
    """What every training takes by name, all of it optional."""

    report: Callable[[StepReport], None]
    """Called at each line of the journal, and while caches are made."""
    max_seconds: float | None
    """Stop after so long, with everything saved; so do SIGINT and SIGTERM."""
    device: str | torch.device | None
    """Default: the fastest at hand."""
    cache: str | Path | None
    """Where tokens and activations are kept, ``out/cache`` by default; runs on the same data may share it."""
    tensorboard: bool


def conduct(
    work: Callable[[Run], Iterator[StepReport]],
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    *,
    report: Callable[[StepReport], None] = lambda step: None,
    max_seconds: float | None = None,
    device: str | torch.device | None = None,
    cache: str | Path | None = None,
    tensorboard: bool = False,
    encodes: bool = True,
) -> TrainResult:
    """Open a run, do its ``work`` until that ends or is asked to stop, and say what it reached.

    encodes: whether the backbone reads texts, on the device; else its tokenizer is all that is used.
    """
    target = torch.device(device) if device is not None else best_device()
    out = Path(out).expanduser()
    with stop_requests(max_seconds) as stop:
        backbone = open_backbone(recipe.model.backbone, target if encodes else "cpu")
        caches = Path(cache).expanduser() if cache else out / "cache"
        run = Run(recipe, str(data), out, caches, backbone, target, stop, tensorboard)
        finished = False
        try:
            for step in work(run):
                report(step)
            finished = True
        except Stopped:
            pass
    texts, cut = _counted(run, "train-texts", "main", "cut")
    sources_cut, left_out = _counted(run, "train-sources", "cut", "left_out") if recipe.data.is_paired else (0, 0)
    model = out / "model"
    return TrainResult(finished, out, model if model.is_dir() else None, texts, cut, sources_cut, left_out)


def _counted(run: Run, store: str, *names: str) -> Iterator[int]:
    """Counts of a store of the corpus; 0 where it is not made yet."""
    folder = run.cache / store
    meta = read_meta(folder) if folder.is_dir() else {}
    return (meta.get(name, 0) for name in names)


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
