"""For authors of plug-ins: does a backbone, a solver or a task keep the promises of its seam? And a tiny model to try it on.

Each check raises AssertionError with one line on what is wrong, so that it can be a whole test:

>>> def test_my_solver():
...     check_solver(MySolver(), order=2)
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from textcosm.diffusion.denoiser import SourceConfig, new_denoiser
from textcosm.diffusion.process import Point, ReverseProcess
from textcosm.diffusion.schedule import TanSchedule
from textcosm.diffusion.solvers import Solver
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.normaliser import new_normaliser
from textcosm.pipeline import TextDiffusion
from textcosm.presets import preset
from textcosm.tasks.task import Example, Task
from textcosm.text.backbone import Backbone, open_backbone
from textcosm.text.ngrams import NGrams

SENTENCES = (
    "The dog ran home.",
    "Anna bought a new red bike, and then she rode it to the river with her two brothers.",
)
"""A short and a long text, for checks that need text."""


def tiny_model(seed: int = 0, source_length: int | None = None) -> TextDiffusion:
    """An untrained model of the preset ``tiny``: every method works, on any machine, in milliseconds; the texts are noise.

    source_length: make it read sources of so many tokens at most, with weights that let them matter.
    """
    config = preset("tiny").recipe.model
    if source_length is not None:
        config = replace(config, denoiser=replace(config.denoiser, source_depth=1), source=SourceConfig(source_length))
    backbone = open_backbone(config.backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = Autoencoder(config.autoencoder, backbone.width, backbone.vocab_size)
        normaliser = new_normaliser(autoencoder, config.normaliser)
        denoiser = new_denoiser(config.denoiser, config.schedule, normaliser.shape, backbone.width)
        for parameter in denoiser.parameters() if source_length is not None else ():
            torch.nn.init.normal_(parameter, std=0.3)
    batch = backbone.tokenize(2 * SENTENCES, config.autoencoder.max_length)
    lengths = batch.mask.sum(1)
    ngrams = NGrams.of_texts(batch.tokens[batch.mask], lengths.cumsum(0) - lengths, backbone.vocab_size)
    modules = (autoencoder, normaliser, denoiser)
    return TextDiffusion(config, *modules, backbone.tokenizer, backbone.fingerprint, ngrams=ngrams)


# --- backbones


def check_backbone(backbone: Any, texts: Sequence[str] = SENTENCES) -> None:
    """Shapes, frames, cutting, determinism, and that no row feels the padding that another row needs."""
    _require(isinstance(backbone, Backbone), f"{type(backbone).__name__} lacks members of the protocol Backbone")
    _require(bool(backbone.fingerprint), "the fingerprint is empty: a model could not tell this encoder from another")
    batch = backbone.tokenize(list(texts), backbone.max_tokens)
    _require(batch.tokens.shape == batch.mask.shape == batch.forms.shape, "tokens, mask and forms differ in shape")
    _require(batch.cut == 0 and bool(batch.mask.any(1).all()), "short texts were cut, or a text has no tokens")
    _require(int(batch.tokens.max()) < backbone.vocab_size, f"a token is beyond vocab_size {backbone.vocab_size}")
    _check_cutting(backbone, texts)
    hidden = backbone.encode(batch.tokens, batch.mask)
    shape = (*batch.tokens.shape, backbone.width)
    _require(tuple(hidden.shape) == shape, f"encode gives {tuple(hidden.shape)}, not {shape}")
    _require(hidden.dtype == torch.float32 and not hidden.requires_grad, "encode must give float32 without gradient")
    _require(bool(hidden[batch.mask].isfinite().all()), "encode gives numbers that are not finite")
    _require(torch.equal(hidden, backbone.encode(batch.tokens, batch.mask)), "encode differs from call to call")
    _check_padding(backbone, texts, hidden)
    table = tuple(backbone.embeddings().shape)
    _require(table == (backbone.vocab_size, backbone.width), f"embeddings are {table}, not (vocab_size, width)")
    written = backbone.detokenize(batch.tokens, batch.forms)
    _require(len(written) == len(texts), f"detokenize gives {len(written)} texts for {len(texts)}")


def _check_cutting(backbone: Backbone, texts: Sequence[str]) -> None:
    cut = backbone.tokenize([" ".join(texts)], 6)
    _require(cut.tokens.shape == (1, 6) and cut.cut == 1, "a text longer than max_length must be cut to it and counted")
    end = backbone.tokenizer.end_id
    _require(int(cut.tokens[0, -1]) == end, f"a cut text must keep its end token {end}")


def _check_padding(backbone: Backbone, texts: Sequence[str], together: Tensor) -> None:
    for row, text in enumerate(texts):
        alone = backbone.tokenize([text], backbone.max_tokens)
        hidden = backbone.encode(alone.tokens, alone.mask)[0]
        difference = float((hidden - together[row, : len(hidden)]).abs().max())
        _require(
            difference < 1e-3, f"text {row} encodes differently beside a longer one (by {difference:.2g}): mask padding"
        )


# --- solvers


MEAN, DEVIATION = 1.5, 0.4
"""The data of the test: a Gaussian, whose denoiser and whose every marginal are known exactly."""
START, END = 0.9, 0.1
STEPS = 48


def check_solver(solver: Any, order: float | None = None) -> float:
    """The observed order of convergence on a Gaussian with a known answer: weak order where the solver draws noise.

    Fails if the error does not shrink with the steps, or by less than ``order`` (less 0.2) promises.
    """
    _require(isinstance(solver, Solver), f"{type(solver).__name__} has no method step(process, now, s, past)")
    coarse, fine = _error(solver, STEPS), _error(solver, 2 * STEPS)
    _require(math.isfinite(fine), "the walk ends in numbers that are not finite")
    if fine < 1e-9:
        return math.inf  # exact on this problem
    observed = math.log2(coarse / fine)
    _require(
        observed > 0.5,
        f"twice the steps change the error from {coarse:.2g} to {fine:.2g}: the solver does not converge",
    )
    _require(order is None or observed > order - 0.2, f"the observed order is {observed:.2f}, not {order}")
    return observed


def _error(solver: Solver, steps: int) -> float:
    """Distance of the end's mean and standard deviation from the exact ones, without sampling.

    Here a walk is affine in its start and in each draw. So one batch measures it: row 0 starts at the mean and draws
    zeros, row 1 starts one higher, and row 2 + k gets a one at draw k.
    """
    schedule = TanSchedule()
    draws = _walk(solver, schedule, steps, rows=1)[1]
    end, _ = _walk(solver, schedule, steps, rows=2 + draws)
    base, moved, stirred = end[0], end[1] - end[0], end[2:] - end[0]
    deviation = math.hypot(float(moved) * _deviation(schedule, START), float(stirred.norm()))
    mean = schedule.alpha(END).item() * MEAN
    return max(abs(float(base) - mean), abs(deviation - _deviation(schedule, END)))


def _walk(solver: Solver, schedule: TanSchedule, steps: int, rows: int) -> tuple[Tensor, int]:
    """The ends of all rows, ``(rows,)``, and how often noise was drawn."""
    draws = 0

    def draw() -> Tensor:
        nonlocal draws
        draws += 1
        return (torch.arange(rows) == 1 + draws).double().view(rows, 1, 1)

    process = ReverseProcess(schedule, lambda noisy, time, _: _denoised(schedule, noisy, time), draw)
    noisy = schedule.alpha(START) * MEAN + (torch.arange(rows) == 1).double().view(rows, 1, 1)
    past = None
    for time, target in pairwise(torch.linspace(START, END, steps + 1, dtype=torch.float64).tolist()):
        now = Point(time, noisy, process.denoise(noisy, time, None))
        noisy, past = solver.step(process, now, target, past), now
        _require(noisy.shape == (rows, 1, 1), f"step gives {tuple(noisy.shape)} for latents {(rows, 1, 1)}")
    return noisy.flatten(), draws


def _denoised(schedule: TanSchedule, noisy: Tensor, time: float) -> Tensor:
    """The posterior mean of x_0 given x_t."""
    alpha = schedule.alpha(time).item()
    gain = alpha * DEVIATION**2 / _deviation(schedule, time) ** 2
    return MEAN + gain * (noisy - alpha * MEAN)


def _deviation(schedule: TanSchedule, time: float) -> float:
    return math.hypot(schedule.alpha(time).item() * DEVIATION, schedule.sigma(time).item())


# --- tasks


def check_task(task: Any, at_most: int = 1000) -> None:
    """Splits that exist, keep their order, hold texts, and share none (looked at: the first ``at_most`` of each).

    Of texts that answer a source, it is the sources that must not be shared.
    """
    _require(isinstance(task, Task), f"{type(task).__name__} lacks members of the protocol Task")
    _require(isinstance(task.metrics, tuple), "metrics must be a tuple of names")
    splits = {split: _first(task, split, at_most) for split in ("train", "valid")}
    _require(bool(splits["train"]), "the split train is empty")
    for split, examples in splits.items():
        _require(
            all(isinstance(example, Example) for example in examples), f"{split} yields something else than Example"
        )
        _require(all(example.text.strip() for example in examples), f"{split} yields a blank text")
        _require(examples == _first(task, split, at_most), f"{split} comes in another order the second time")
    sides = [{example.text if example.source is None else example.source for example in splits[name]} for name in splits]
    shared = sides[0] & sides[1]  # two sources may have one answer
    _require(not shared, f"{len(shared)} texts are in train and in valid, first {min(shared, default='')[:40]!r}")


def _first(task: Task, split: str, count: int) -> list[Any]:
    return [example for _, example in zip(range(count), task.examples(split), strict=False)]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
