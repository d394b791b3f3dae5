"""The headline table: our models at several numbers of steps beside the rivals, on one machine and the same texts.

    python runs/headline.py MODEL RIVAL ... --train TRAIN.jsonl --test TEST.jsonl --out DIR

A model of ours is measured at every one of ``--steps``, a rival at its own; ``PATH@20`` asks for 20 steps of either.
Where ``OUT/NAME/report.json`` is there (``textcosm evaluate --out``), its quality is taken from it and not measured
again. Speeds are timed in one go, in rounds over all systems, so that a busy minute hurts them alike; peak memory is
that of a fresh process that loads the system and writes one batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from page import Panel, curve, shown, write_page
from study import Plan, Study, command, run, tell

from textcosm.baselines.systems import System, open_systems, plain, without_folders, write_afresh
from textcosm.evaluation.bench import in_fresh_process, in_rounds, seconds_a_text
from textcosm.evaluation.markdown import markdown_table
from textcosm.evaluation.metrics import memorisation
from textcosm.evaluation.report import JSON_FILE, Report, read_report
from textcosm.tasks.files import read_texts

AT_A_TIME = 100
"""Texts of a seed; a stopped command goes on after the last of these."""
BATCHES = (1, 64)


@dataclass(frozen=True, kw_only=True)
class HeadlinePlan(Plan):
    """What stands in the table."""

    systems: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="SYSTEM ...")]
    """Shipped names, model folders, training runs and rivals' folders, each also with @STEPS."""
    train: Path
    """What all of them were trained on: what counts as memorised."""
    docs: Path = Path("docs")
    steps: tuple[int, ...] = (200, 50, 20, 10)
    """Of our models."""
    lm_weight: float | None = None
    """Of the n-grams of our models; each model's own by default."""
    rounds: int = 3
    """Times that every speed is taken; the median counts."""


# --- quality


class Headline:
    """One call: systems, what is known of each, and the page."""

    def __init__(self, plan: HeadlinePlan, say=tell):
        self.plan, self.study = plan, Study(plan, say)
        self.systems = open_systems(plan.systems, plan.steps, plan.device, seed=plan.seed, lm_weight=plan.lm_weight)

    @cached_property
    def training_texts(self) -> list[str]:
        return list(read_texts(self.plan.train, self.plan.text_field))

    def quality(self, system: System) -> dict[str, Any] | None:
        """From a report that is there, else measured on texts that are made a hundred at a time."""
        report = self.plan.out / system.name / JSON_FILE
        if report.is_file():
            return from_report(read_report(report))
        texts = self._texts(system)
        if texts is None:
            return None
        return self.study.once(f"quality-{system.name}", system.subject.manifest, lambda: self._measured(texts))

    def _texts(self, system: System) -> list[str] | None:
        plan, found = self.plan, []
        for part, start in enumerate(range(0, plan.count, AT_A_TIME)):
            count = min(AT_A_TIME, plan.count - start)
            made = self.study.once(
                f"texts-{system.name}-{part:02d}",
                [system.subject.manifest, count],
                lambda n=count, k=part: {"texts": [t for b in system.subject.texts(n, plan.seed + k) for t in b]},
            )
            if made is None:
                return None
            found += made["texts"]
        return found

    def _measured(self, texts: list[str]) -> dict[str, Any]:
        return {**self.study.quality(texts), "memorised": asdict(memorisation(texts, self.training_texts))}

    # --- speed and memory

    def timings(self) -> dict[str, dict[str, float]] | None:
        """Seconds a text of every system at batch 1 and 64: medians over rounds."""
        names = [system.name for system in self.systems]
        return self.study.once("timings", [names, self.plan.rounds, self.plan.threads], self._timed)

    def _timed(self) -> dict[str, dict[str, float]]:
        writers = {system.name: system.write for system in self.systems}
        taken = in_rounds(writers, BATCHES, self.plan.rounds, self.plan.seed)
        return {name: {str(n): seconds_a_text(w) for n, w in sizes.items()} for name, sizes in taken.items()}

    def memory(self, system: System) -> dict[str, Any] | None:
        """Peak memory in MB of a fresh process that loads ``system`` and writes a batch of 64."""
        return self.study.once(f"memory-{system.name}", system.subject.manifest, lambda: _peak_of(system, self.plan))


def from_report(report: Report) -> dict[str, Any]:
    """The quality in a report of ``textcosm evaluate``; None for what was not measured there."""
    found = {name: asdict(value) for name, value in report.metrics.items()}
    return {name: found.get(name) for name in ("mauve", "perplexity", "diversity", "memorised")}


def _peak_of(system: System, plan: HeadlinePlan) -> dict[str, Any]:
    settings = (system.path, system.asked, plan.device or "", str(plan.threads), str(BATCHES[-1]))
    fresh = in_fresh_process(write_afresh, *settings)
    return {"resident": fresh.resident, "cuda": fresh.cuda}


# --- the page


def study(plan: HeadlinePlan, say=tell) -> Path:
    """Measure what is not measured yet, and write the page."""
    headline = Headline(plan, say)
    known = {system.name: headline.quality(system) for system in headline.systems}
    timings = headline.timings() or {}
    memory = {system.name: headline.memory(system) for system in headline.systems}
    rows = [_row(s, known[s.name], timings.get(s.name), memory[s.name]) for s in headline.systems]
    real = headline.study.real()
    if real:
        rows.append(_row(None, real, None, None))
    tables = [markdown_table(("system", "MAUVE", "PPL", "Div", "Mem", "s / text, batch 1", "batch 64", "peak MB"), rows)]
    tables.append(markdown_table(("system", "parameters: embedding", "other", "passes", "vectors a pass", "GFLOP / text"),
                        [_arithmetic(system) for system in headline.systems]))  # fmt: skip
    said = [*headline.study.said(), _machine(plan), _explained(plan)]
    options = [*map(without_folders, plan.systems), "--train", plan.train.name, "--steps", *map(str, plan.steps), "--rounds", str(plan.rounds)]
    options += [] if plan.lm_weight is None else ["--lm-weight", f"{plan.lm_weight:g}"]
    panels = _panels(headline.systems, known, timings)
    return write_page(
        plan.docs, "headline", "Ours beside the rivals", said, tables, panels, command("headline", plan, *options)
    )


def _row(
    system: System | None, known: dict[str, Any] | None, timing: dict[str, float] | None, memory: dict[str, Any] | None
) -> tuple[str, ...]:
    known = known or {"mauve": None, "perplexity": None, "diversity": None}
    speeds = [f"{timing[str(n)]:.3f}" if timing else "-" for n in BATCHES]
    peak = f"{memory['cuda'] or memory['resident']:.0f}" if memory else "-"
    name = system.name if system else "real texts"
    measures = shown(known["mauve"]), shown(known["perplexity"], 1), shown(known["diversity"])
    return (name, *measures, shown(known.get("memorised")), *speeds, peak)


def _arithmetic(system: System) -> tuple[str, ...]:
    sizes = (f"{system.embedding / 1e6:.1f} M", f"{system.other / 1e6:.1f} M")
    return (system.name, *sizes, f"{system.passes:.0f}", str(system.positions), f"{system.gflop:.2f}")


def _explained(plan: HeadlinePlan) -> str:
    return (
        "GFLOP / text is 2 x parameters x vectors over all passes and the way back to tokens, without attention's own "
        "products; the masked rival's is an upper bound, as it skips passes in which nothing changes. Passes follow "
        f"one another. Speeds are medians of {plan.rounds} rounds over all systems; peak MB is a fresh process writing "
        f"{BATCHES[-1]} texts, Python and torch included (on a GPU: what torch allocated there)."
    )


def _machine(plan: HeadlinePlan) -> str:
    if plan.device != "cpu" and torch.cuda.is_available():
        return f"Machine: {torch.cuda.get_device_name()}."
    return f"Machine: {plan.threads} CPU threads."


def _panels(
    systems: Sequence[System], known: dict[str, dict[str, Any] | None], timings: dict[str, dict[str, float]]
) -> Iterator[Panel]:
    """Quality over seconds a text: a line for each model of ours, another with refinements, a point for each rival."""
    groups = list(dict.fromkeys((system.path, system.refine > 0) for system in systems))
    for measure, title, log in (("mauve", "MAUVE", False), ("perplexity", "perplexity", True)):
        for size in BATCHES:
            lines = []
            for path, is_refined in groups:
                of_group = [s for s in systems if (s.path, s.refine > 0) == (path, is_refined)]
                mine = [s for s in of_group if s.name in timings and known[s.name]]
                points = [(timings[s.name][str(size)], (known[s.name] or {})[measure]) for s in mine]
                called = plain(path) + (", refined" if is_refined else "")
                lines.append(curve(called, sorted(points, key=lambda point: point[0])))
            yield Panel(f"{title} and speed, batch {size}", "seconds a text", title, lines, log_x=True, log_y=log)


if __name__ == "__main__":
    chosen = tyro.cli(HeadlinePlan, description=__doc__)
    run("headline", lambda: study(chosen))
