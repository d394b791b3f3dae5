"""The one training loop, for every stage: a generator, so that progress belongs to the caller."""

import hashlib
import math
import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from textcosm.errors import ConfigError, TrainingError
from textcosm.nn.precision import has_fast_bfloat16
from textcosm.training.ema import Ema
from textcosm.training.flop import utilisation
from textcosm.training.journal import Journal
from textcosm.training.optim import build_optimizers, set_rate
from textcosm.training.state import TrainState

ScheduleName = Literal["cosine", "constant"]
OptimizerName = Literal["adamw", "muon"]
TrainingPrecision = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class FitConfig:
    """How long, how fast and how carefully one stage trains; the defaults are the reference's (arXiv 2506.21170)."""

    steps: int = 100_000
    """Optimiser updates."""
    batch_size: int = 512
    """Texts a step."""
    learning_rate: float = 2e-4
    """Peak rate of AdamW."""
    muon_learning_rate: float = 0.01
    """Peak rate of Muon, used with optimizer "muon" only."""
    final_learning_rate: float = 1e-4
    """AdamW's rate at the last step of the cosine; Muon's falls by the same factor."""
    schedule: ScheduleName = "cosine"
    """After the warm-up."""
    warmup: int = 1000
    """Steps of linear warm-up."""
    optimizer: OptimizerName = "adamw"
    """"muon" uses Muon for the matrices of the blocks and AdamW elsewhere."""
    weight_decay: float = 1e-5
    """On matrices and tables; gains and biases are not decayed."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's."""
    eps: float = 1e-6
    """AdamW's."""
    clip: float = 10.0
    """Largest gradient norm."""
    ema: float = 0.0
    """Decay of the averaged weights, which are then the ones validated and exported; 0 means no average."""
    precision: TrainingPrecision = "auto"
    """"auto" takes bfloat16 where the hardware is fast at it."""
    compile: bool = False
    """Compile the blocks with torch.compile."""
    checkpoint_seconds: float = 300.0
    """Save the state this often."""
    log_every: int = 50
    """Steps between two lines of the journal."""
    valid_every: int = 1000
    """Steps between two validations."""

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "batch_size",
            "learning_rate",
            "muon_learning_rate",
            "eps",
            "clip",
            "log_every",
            "valid_every",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("warmup", "weight_decay", "final_learning_rate", "checkpoint_seconds"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        for name, value in (("ema", self.ema), ("betas", self.betas[0]), ("betas", self.betas[1])):
            if not 0 <= value < 1:
                raise ConfigError(f"{name} holds {value}; it must be at least 0 and below 1")
        choices = {"schedule": ScheduleName, "optimizer": OptimizerName, "precision": TrainingPrecision}
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(
                    f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(get_args(kind))}"
                )


@dataclass(frozen=True)
class StepReport:
    """Where a stage stands; ``metrics`` are means since the last report, validation's as ``valid_...``.

    While a cache is made, ``step`` counts texts; ``steps`` is 0 where their number is not known yet.
    """

    step: int
    steps: int
    stage: str
    metrics: dict[str, float]
    texts_per_second: float
    seconds_left: float


@runtime_checkable
class Stage(Protocol):
    """What the loop needs to know of a stage; ``loss`` and its data are functions of the step number alone."""

    name: str
    texts_per_step: int

    @property
    def module(self) -> nn.Module:
        """What is trained."""
        ...

    def loss(self, step: int) -> dict[str, Tensor]:
        """Scalars; the one named "loss" is minimised, the others are shown."""
        ...

    def validate(self) -> dict[str, float]:
        """Figures on held-out texts, with the module's present weights; empty if there are none."""
        ...


@runtime_checkable
class Counted(Protocol):
    """A stage that knows its arithmetic, which the journal then shows as a speed."""

    flop_per_text: float
    """Floating-point operations of training on one text, from training/flop.py."""


def fit(
    stage: Stage,
    config: FitConfig,
    directory: Path,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
    tensorboard: bool = False,
) -> Generator[StepReport, None, bool]:
    """Train from where ``directory`` stands to ``config.steps``; returns False if ``stop()`` ended it before (state saved).

    The same directory, stage, config and seed continue to the losses of an uninterrupted run: all randomness of a step follows
    from (seed, step). Raises :class:`TrainingError` when a loss is not a number.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = open_state(stage, config)
    state.restore(directory)
    journal = Journal(directory / "journal.jsonl", state.step, tensorboard)
    clock = _Clock(state)
    stage.module.train()
    try:
        while state.step < config.steps:
            if stop():
                _save(state, directory, stage, clock)
                return False
            advance(stage, config, state, seed)
            last = state.step == config.steps
            report = None
            if last or state.step % config.log_every == 0:
                report = _report(stage, config, state, journal, clock)
            if last or clock.since_save() > config.checkpoint_seconds:
                _save(state, directory, stage, clock)
            if report is not None:
                yield report
    finally:
        journal.close()
    return True


def seed_of(*parts: int | str) -> int:
    """A generator seed for this purpose and step: equal parts give equal seeds, any difference an unrelated one."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def learning_rate_factor(config: FitConfig, step: int) -> float:
    """The share of the peak rate at ``step`` (from 0): linear warm-up, then constant or half a cosine."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    if config.schedule == "constant":
        return warm
    floor = config.final_learning_rate / config.learning_rate
    progress = min(1.0, max(0.0, (step - config.warmup) / max(1, config.steps - config.warmup)))
    return warm * (floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2)


def autocast_dtype(precision: TrainingPrecision, device: torch.device) -> torch.dtype | None:
    """bfloat16 or None (float32). A CPU without bfloat16 instructions emulates them, many times slower than float32."""
    if precision == "auto":
        return torch.bfloat16 if has_fast_bfloat16(device) else None
    return torch.bfloat16 if precision == "bfloat16" else None


def open_state(stage: Stage, config: FitConfig) -> TrainState:
    """What the training of ``stage`` starts from: optimisers and average as ``config`` wants them, at step 0."""
    optimizers = build_optimizers(
        stage.module,
        config.optimizer,
        config.learning_rate,
        config.muon_learning_rate,
        config.weight_decay,
        config.betas,
        config.eps,
    )
    if config.compile:
        compile_blocks(stage.module)
    return TrainState(stage.module, optimizers, Ema(stage.module, config.ema) if config.ema else None)


def compile_blocks(module: nn.Module) -> None:
    """Compile each block on its own: blocks are alike, so this is quick, and what runs between them may be any Python."""
    for parent in module.modules():
        if isinstance(parent, nn.ModuleList):
            for block in parent:
                block.compile()


def advance(stage: Stage, config: FitConfig, state: TrainState, seed: int) -> None:
    """One update of the stage's module. Nothing here waits for the device."""
    device = next(stage.module.parameters()).device
    dtype = autocast_dtype(config.precision, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_of(seed, stage.name, "dropout", state.step))
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
            losses = stage.loss(state.step)
    losses["loss"].backward()
    trained = [parameter for parameter in stage.module.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.clip_grad_norm_(trained, config.clip)
    set_rate(state.optimizers, learning_rate_factor(config, state.step))
    for optimizer in state.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    state.step += 1
    if state.ema is not None:
        state.ema.update(state.step)
    state.meter.add(losses | {"gradient_norm": norm}, state.step)


class _Clock:
    """Speed since the last report, and the seconds of training over all continuations."""

    def __init__(self, state: TrainState):
        self.before = state.seconds
        self.start = self.saved = self.reported = time.monotonic()
        self.step = state.step

    def total(self) -> float:
        return self.before + time.monotonic() - self.start

    def since_save(self) -> float:
        return time.monotonic() - self.saved

    def steps_per_second(self, step: int) -> float:
        now = time.monotonic()
        speed = (step - self.step) / max(1e-9, now - self.reported)
        self.reported, self.step = now, step
        return speed


def _report(stage: Stage, config: FitConfig, state: TrainState, journal: Journal, clock: _Clock) -> StepReport:
    _check_finite(state, stage)
    metrics = state.meter.means()
    speed = clock.steps_per_second(state.step)
    if state.step % config.valid_every == 0 or state.step == config.steps:
        metrics |= _validate(stage, state)
        clock.reported = time.monotonic()
    rate = config.learning_rate * learning_rate_factor(config, state.step - 1)
    texts, left = speed * stage.texts_per_step, (config.steps - state.step) / max(1e-9, speed)
    record = {"step": state.step, **metrics, "learning_rate": rate, "texts_per_second": texts, "seconds": clock.total()}
    record |= _arithmetic(stage, config, texts)
    journal.write(record)
    return StepReport(state.step, config.steps, stage.name, metrics, texts, left)


def _arithmetic(stage: Stage, config: FitConfig, texts_per_second: float) -> dict[str, float]:
    """GFLOP a second, or the share of what the device can do where that is known; nothing for a stage that counts none."""
    if not isinstance(stage, Counted):
        return {}
    device = next(stage.module.parameters()).device
    speed = stage.flop_per_text * texts_per_second
    share = utilisation(speed, device, autocast_dtype(config.precision, device))
    return {"gflop_per_second": speed / 1e9} if share is None else {"utilisation": share}


def _validate(stage: Stage, state: TrainState) -> dict[str, float]:
    stage.module.eval()
    with torch.no_grad(), nullcontext() if state.ema is None else state.ema.applied():
        figures = stage.validate()
    stage.module.train()
    return {f"valid_{name}": value for name, value in figures.items()}


def _save(state: TrainState, directory: Path, stage: Stage, clock: _Clock) -> None:
    _check_finite(state, stage)  # never replace a good state by a bad one
    state.seconds = clock.total()
    state.save(directory)
    clock.saved = time.monotonic()


def _check_finite(state: TrainState, stage: Stage) -> None:
    bad = state.meter.first_bad_step()
    if bad is not None:
        raise TrainingError(
            f"{stage.name}: the loss or its gradient is not a number at step {bad}; lower the learning rate or use "
            "precision float32, and give a new folder (the last saved state is from before)"
        )
