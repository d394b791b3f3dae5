"""``textcosm bench``: how fast models and rivals write on this machine, in one run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from textcosm.cli.options import Compiled, Device, MatrixPrecision, TaskName, parse_and_run
from textcosm.errors import ConfigError

if TYPE_CHECKING:
    from textcosm.baselines.systems import System
    from textcosm.evaluation.bench import Fresh, Written
    from textcosm.evaluation.rows import Rows

UNKNOWN = "-"


def run(arguments: list[str]) -> None:
    parse_and_run(bench, "bench", arguments)


def bench(
    systems: Annotated[
        Positional[tuple[str, ...]],
        arg(
            metavar="MODEL|RIVAL",
            help="Shipped models, folders of models, rivals or training runs; NAME@20 asks for 20 steps of one.",
        ),
    ] = ("stories-16",),
    /,
    steps: Annotated[tuple[int, ...], arg(metavar="K", help="Steps of our models; a rival has its own.")] = (
        1, 2, 4, 8, 16, 32,
    ),  # fmt: skip
    batch: Annotated[tuple[int, ...], arg(metavar="B", help="Texts written at a time.")] = (1, 64),
    rounds: Annotated[int, arg(metavar="R", help="Times that everything is timed, in turn; the median counts.")] = 3,
    seed: Annotated[int, arg(metavar="S", help="Of the texts.")] = 0,
    threads: Annotated[
        int | None, arg(metavar="T", help="CPU threads.", help_behavior_hint="(default: as many as torch takes)")
    ] = None,
    precision: MatrixPrecision = "float32",
    compiled: Compiled = False,
    fresh: Annotated[bool, arg(help="Measure cold start and peak memory too, in a fresh process for each.")] = True,
    against: Annotated[
        str | None,
        arg(metavar="DATA", help="Where what answers sources finds them.", help_behavior_hint="(default: it writes freely)"),
    ] = None,
    task: TaskName = None,
    out: Annotated[
        Path | None,
        arg(metavar="FILE.json", help="Write every single timing here.", help_behavior_hint="(default: nowhere)"),
    ] = None,
    device: Device = None,
) -> None:
    """Time models and rivals side by side: seconds a text and a step, tokens a second, cold start and memory."""
    import torch

    from textcosm.baselines.systems import open_systems
    from textcosm.cli.table import print_table
    from textcosm.evaluation.bench import in_rounds, machine
    from textcosm.nn.precision import is_able
    from textcosm.pipeline import best_device

    for name, values in (("--steps", steps), ("--batch", batch)):
        if not values or min(values) < 1:
            raise ConfigError(f"{name} {' '.join(map(str, values))}: give one or more whole numbers from 1 up")
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"--threads is {threads}; give at least 1")
        torch.set_num_threads(threads)
    chosen = device or str(best_device())
    if not is_able(torch.device(chosen), precision):
        print(f"{precision} has no fast matrices on this {chosen}: float32 is used", file=sys.stderr)
    found = open_systems(systems, sorted(set(steps)), chosen, _references(against, task), seed, precision)
    if compiled:
        models = {id(system.model): system.model for system in found if system.model is not None}
        for note in {note for model in models.values() if (note := model.use_compiled())}:
            print(note, file=sys.stderr)
    taken = in_rounds({system.name: system.write for system in found}, sorted(set(batch)), rounds, seed, _tell)
    starts = {s.name: _start(s, chosen, threads, max(batch), precision) if fresh else None for s in found}
    print_table(table(found, taken, starts))
    print(f"{machine(torch.device(chosen))}; medians of {rounds} rounds over all systems.", file=sys.stderr)
    print(LEGEND, file=sys.stderr)
    if out is not None:
        _write(out, found, taken, starts)


LEGEND = (
    "x: how many times as fast as the first row. A pass is one run of the network, decoding to text shared out over the "
    "passes. Tokens are each system's own. Cold start: from the start of a Python process to its first text. Peak: that "
    "process after a batch of the largest size (on a GPU: what torch allocated there)."
)


def table(
    systems: "list[System]",
    taken: "dict[str, dict[int, list[Written]]]",
    starts: "dict[str, Fresh | None]",
) -> list[tuple[str, ...]]:
    """A row for each system, the head first."""
    from textcosm.evaluation.bench import seconds_a_text

    sizes = list(taken[systems[0].name])
    head = [f"{what}, batch {n}" for n in sizes for what in ("s / text", "x", "ms / pass", "tokens / s")]
    first = {n: seconds_a_text(taken[systems[0].name][n]) for n in sizes}
    rows: list[tuple[str, ...]] = [("system", *head, "cold start s", "peak MB")]
    for system in systems:
        cells: list[str] = []
        for n in sizes:
            written = taken[system.name][n]
            seconds = seconds_a_text(written)
            tokens = sum(system.tokens(one.texts) / len(one.texts) for one in written) / len(written)
            a_pass = 1e3 * seconds * n / max(1.0, system.passes)
            cells += [f"{seconds:.4f}", f"{first[n] / seconds:.2f}", f"{a_pass:.2f}", f"{tokens / seconds:.0f}"]
        start = starts[system.name]
        own = (UNKNOWN, UNKNOWN) if start is None else (f"{start.seconds:.1f}", f"{start.peak:.0f}")
        rows.append((system.name, *cells, *own))
    return rows


def _references(against: str | None, task: str | None) -> "Rows | None":
    if against is None:
        if task is not None:
            raise ConfigError(f"--task {task} says how DATA is read, and there is none: give --against DATA")
        return None
    from textcosm.evaluation.rows import read_rows
    from textcosm.tasks import DataConfig

    return read_rows(against, None, DataConfig(task=task))


def _start(system: "System", device: str, threads: int | None, count: int, precision: str) -> "Fresh | None":
    """None for what cannot write without a source."""
    from textcosm.baselines.systems import write_afresh
    from textcosm.evaluation.bench import in_fresh_process

    if system.subject.sources is not None:
        return None
    _tell(f"fresh process: {system.name}", 1, 1)
    return in_fresh_process(write_afresh, system.path, system.asked, device, str(threads or ""), str(count), precision)


def _tell(stage: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{stage} {done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _write(
    out: Path,
    systems: "list[System]",
    taken: "dict[str, dict[int, list[Written]]]",
    starts: "dict[str, Fresh | None]",
) -> None:
    """All that was measured, as JSON: seconds of every batch by system and batch size."""
    import json
    from dataclasses import asdict

    from textcosm.checkpoint import whole_file

    found = {
        system.name: {
            "steps": system.steps,
            "passes": system.passes,
            "gflop": system.gflop,
            "parameters": {"embedding": system.embedding, "other": system.other},
            "seconds": {str(n): [one.seconds for one in written] for n, written in taken[system.name].items()},
            "tokens": {str(n): [system.tokens(one.texts) for one in w] for n, w in taken[system.name].items()},
            "fresh": None if (start := starts[system.name]) is None else asdict(start),
        }
        for system in systems
    }
    with whole_file(out) as file:
        file.write(json.dumps(found, indent=1))
