"""The page of a task: our models at several settings beside rivals and rules, on pairs that none was trained on.

    python runs/task.py TASK MODEL RIVAL rule:copy ... --test TEST.jsonl --out DIR

A model of ours is measured at every one of ``--steps`` and at its own number of steps, and there with each
``--guidance``, ``--mbr`` and ``--best`` and, rewriting the source from its own latents, each ``--strength`` as well (and
all of them in turn, until a ``--probe`` finds the ``--label``); an encoder-decoder with each of ``--beams``. Speeds are
timed in one go, in rounds over all systems, so that a busy minute hurts them alike. For data that may not be copied,
``--show outputs`` keeps sources and references off the page, and ``--samples`` names pairs that may stand there.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from headline import BATCHES
from page import Panel, curve, shown, write_page
from study import SIZES_SAID, Plan, Study, command, open_model, run, tell

from textcosm.baselines import is_rival, open_rival
from textcosm.baselines.rules import PREFIX, RULES, is_rule, open_rule
from textcosm.baselines.systems import plain, sizes_of
from textcosm.checkpoint import read_index
from textcosm.control.probe import Probe
from textcosm.errors import ConfigError
from textcosm.evaluation.bench import in_rounds, seconds_a_text
from textcosm.evaluation.judges import default_cache
from textcosm.evaluation.markdown import markdown_table
from textcosm.evaluation.paired import METRICS, Scorers, metric_of_each, paired_metrics
from textcosm.evaluation.report import label
from textcosm.evaluation.rows import Row, Rows, answered_by, read_rows
from textcosm.pipeline import Sampling, find_model
from textcosm.tasks import DataConfig
from textcosm.tasks.named import ANSWERS, named_task

AT_A_TIME = 100
"""Texts of a seed; a stopped command goes on after the last of these."""
SAMPLES, WORST = 20, 10
LONGEST_SHOWN = 400
"""Characters of a source on the page."""
Write = Callable[[list[str], int], list[str]]
"""``(sources, seed)`` -> an answer to each."""


@dataclass(frozen=True, kw_only=True)
class TaskPlan(Plan):
    """What stands on the page."""

    task: tyro.conf.Positional[str]
    """Its name, such as detoxification."""
    systems: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="SYSTEM ...")]
    """Shipped names, model folders and training runs of ours and of rivals, rule:copy, rule:delete."""
    docs: Path = Path("docs/tasks")
    steps: tuple[int, ...] = (200, 50, 20, 10, 5)
    """Of our models, beside their own."""
    guidance: tuple[float, ...] = (2.0,)
    """Weights of the source, at a model's own steps, beside its own weight."""
    mbr: tuple[int, ...] = (5,)
    """Best of so many candidates by each other, at a model's own steps."""
    best: tuple[int, ...] = ()
    """The same by the model's own denoising error."""
    lm_weight: tuple[float, ...] = ()
    """Weights of the n-grams, at a model's own steps, beside its own weight."""
    strength: tuple[float, ...] = ()
    """Of rewriting, for tasks whose answers are near to their sources: the answer begins at the source's own latents,
    noised so far."""
    probe: Path | None = None
    """A probe of the model's latents: the strengths are then also tried in turn, until it finds the ``label``."""
    label: str = ""
    """What an answer should be, by the probe."""
    beams: tuple[int, ...] = (4, 1)
    """Of the encoder-decoder: 1 is greedy, 0 draws; the first is shown."""
    rounds: int = 3
    """Times that every speed is taken; the median counts."""
    show: Literal["all", "outputs", "none"] = "all"
    """Texts on the page: outputs beside sources and references, outputs alone, or none."""
    samples: Path | None = None
    """Pairs that stand on the page, with all that was written of them, in place of those of ``test``."""
    source_field: str | None = None
    """Instead of the task's own."""
    target_field: str | None = None
    """Instead of the task's own."""

    @property
    def pairs(self) -> DataConfig:
        """How the test data is read."""
        return DataConfig(task=self.task, source_field=self.source_field, target_field=self.target_field)


@dataclass(frozen=True)
class System:
    """A row of the tables: something that answers sources in one way."""

    name: str
    group: str
    """The systems of one path make one line of a plot."""
    identity: list[Any]
    """Plain JSON that tells its answers from those of every other."""
    write: Write
    speed_steps: int | None
    """Steps, where they are what a line of the plot goes over."""
    is_shown: bool
    """Whether its outputs stand on the page: one system of each path."""


# --- systems


def open_systems(plan: TaskPlan) -> tuple[list[System], list[tuple[str, ...]]]:
    """All systems of the plan, and a row of parameters for each path. Raises ConfigError for what reads no source."""
    systems: list[System] = []
    sizes: list[tuple[str, ...]] = []
    for given in plan.systems:
        kind = _rule if is_rule(given) else _rival if is_rival(given) else _ours
        found, size = kind(given, plan)
        systems += found
        sizes.append((plain(given), *size))
    names = [system.name for system in systems]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"two systems are called {min(twice)!r}: give their folders different names")
    return systems, sizes


def _rule(given: str, plan: TaskPlan) -> tuple[list[System], tuple[str, ...]]:
    name = given.removeprefix(PREFIX)
    open_rule(given, lambda n, seed: [])  # says which rules there are
    return [System(name, name, [given], lambda sources, seed: RULES[name](sources), None, name == "delete")], ("0", "0")


def _rival(given: str, plan: TaskPlan) -> tuple[list[System], tuple[str, ...]]:
    rival, name = open_rival(given, plan.device), plain(given)
    if not rival.reads_sources:
        raise ConfigError(f"{given} is a rival that reads no source ({rival.kind}): give an encoder-decoder")
    checksum = read_index(find_model(given))["sha256"]

    def system(beams: int) -> System:
        sampler = dataclasses.replace(rival.sampler, beams=beams)
        called = {0: "drawn", 1: "greedy"}.get(beams, f"{beams} beams")

        def write(sources: list[str], seed: int) -> list[str]:
            return rival.sample(source=sources, seed=seed, sampler=sampler)

        return System(f"{name}, {called}", name, [checksum, asdict(sampler)], write, None, beams == plan.beams[0])

    counts = rival.parameters
    return [system(beams) for beams in plan.beams], _millions(counts["embedding"], counts["other"])


def _ours(given: str, plan: TaskPlan) -> tuple[list[System], tuple[str, ...]]:
    model, identity = open_model(given, plan)
    name = plain(given)
    if not model.reads_sources:
        raise ConfigError(f"{given} reads no source; give one that was trained on pairs (textcosm train --task NAME)")
    own = model.config.sampler.steps

    def system(called: str, only_steps: bool, **changes: Any) -> System:
        options: Sampling = {"steps": own, **changes}  # type: ignore[typeddict-item]

        def write(sources: list[str], seed: int) -> list[str]:
            return model.sample(**options | {"source": sources, "seed": seed})

        count = options.get("steps") if only_steps else None
        return System(f"{name}, {called}", name, [*identity, dict(options)], write, count, called == f"{own} steps")

    def rewriting(strength: float) -> System:
        def write(sources: list[str], seed: int) -> list[str]:
            return model.rewrite(sources, strength, source=sources, seed=seed)

        called, is_first = f"{name}, rewriting at {strength:g}", plan.probe is None and strength == plan.strength[0]
        return System(called, name, [*identity, {"strength": strength}], write, None, is_first)

    def until(probe: Probe) -> System:
        probe.check(model.normaliser)
        accept = probe.accept(plan.label, model.encode)

        def write(sources: list[str], seed: int) -> list[str]:
            return model.rewrite(sources, plan.strength, accept, source=sources, seed=seed)

        asked = {"strength": list(plan.strength), "label": plan.label, "probe": float(probe.weight.sum())}
        return System(f"{name}, rewriting until {plan.label}", name, [*identity, asked], write, None, True)

    numbers = sorted({own, *plan.steps}, reverse=True)
    found = [system(f"{steps} steps", True, steps=steps) for steps in numbers]
    found += [system(f"{own} steps, guidance {weight:g}", False, guidance=weight) for weight in plan.guidance]
    found += [system(f"{own} steps, lm weight {weight:g}", False, lm_weight=weight) for weight in plan.lm_weight]
    found += [system(f"{own} steps, best of {count}", False, mbr=count) for count in plan.mbr]
    found += [system(f"{own} steps, least error of {count}", False, best=count) for count in plan.best]
    found += [rewriting(strength) for strength in plan.strength]
    if plan.probe is not None:
        found.append(until(Probe.load(plan.probe)))
    sizes = sizes_of(model)
    return found, _millions(sizes["head"], sizes["denoiser"] + sizes["decompressor"])


def _millions(*counts: int) -> tuple[str, ...]:
    return tuple(f"{count / 1e6:.1f} M" for count in counts)


# --- quality and speed


class TaskStudy:
    """One call: systems, the pairs, and what is known of each system."""

    def __init__(self, plan: TaskPlan, say: Callable[[str], None] = tell):
        self.plan, self.study = plan, Study(plan, say)
        own = named_task(plan.task).metrics
        self.metrics = [name for name in METRICS if name in {*ANSWERS, *own} or (name == "toxicity" and "joint" in own)]
        self.main = "joint" if "joint" in own else "rougeL"
        references = read_rows(plan.test, None, plan.pairs)
        self.pairs = answered_by(references.draw_sources(plan.count, plan.seed), references, references.name)
        self.systems, self.sizes = open_systems(plan)

    @cached_property
    def scorers(self) -> Scorers:
        judge = self.study.judge if "fluency" in self.metrics else None
        return Scorers(judge=judge, cache=self.plan.readings or default_cache(), device=self.plan.device or "cpu")

    @cached_property
    def samples(self) -> list[Row]:
        """The pairs that stand on the page."""
        if self.plan.samples is None:
            return self.pairs[:SAMPLES]
        return list(read_rows(self.plan.samples, None, self.plan.pairs).rows[:SAMPLES])

    @cached_property
    def asked(self) -> list[Any]:
        """What quality and speed depend on besides the system."""
        return self._asked(self.pairs)

    def _asked(self, pairs: Sequence[Row]) -> list[Any]:
        plan = self.plan
        return [plan.task, plan.source_field, plan.target_field, Rows("", tuple(pairs)).sha256]

    def texts(self, system: System) -> list[str] | None:
        """An answer to each pair; None where there is no time for all."""
        return self._answers("answers", system, self.pairs)

    def samples_of(self, system: System) -> list[str] | None:
        """The same for pairs that only stand on the page."""
        return self._answers("samples", system, self.samples)

    def _answers(self, kind: str, system: System, pairs: Sequence[Row]) -> list[str] | None:
        """A hundred at a time, each from a seed of its own."""
        found: list[str] = []
        for part, start in enumerate(range(0, len(pairs), AT_A_TIME)):
            sources = _sources(pairs[start : start + AT_A_TIME])
            made = self.study.once(
                f"{kind}-{_file(system)}-{part:02d}",
                [system.identity, self._asked(pairs)],
                lambda given=sources, k=part: {"texts": system.write(given, self.plan.seed + k)},
            )
            if made is None:
                return None
            found += made["texts"]
        return found

    def quality(self, system: System, texts: list[str] | None) -> dict[str, Any] | None:
        """Every metric as an interval's dictionary."""
        if texts is None:
            return None
        return self.study.once(f"quality-{_file(system)}", [system.identity, self.asked], lambda: self.measured(texts))

    def measured(self, texts: list[str]) -> dict[str, Any]:
        """The metrics of these answers to the sources."""
        targets = [list(pair.targets) for pair in self.pairs]
        found = paired_metrics(texts, targets, _sources(self.pairs), self.metrics, self.scorers)
        return {name: asdict(value) for name, value in found.items()}

    def human(self) -> dict[str, Any] | None:
        """The first reference as if it were an answer, by what needs no reference; None where nothing does."""
        free = [name for name in self.metrics if name not in ("rouge1", "rouge2", "rougeL", "bleu", "bertscore")]
        if not free:
            return None
        texts = [pair.targets[0] for pair in self.pairs]
        return self.study.once("human", self.asked, lambda: {
            name: asdict(value) for name, value in paired_metrics(texts, None, _sources(self.pairs), free, self.scorers).items()
        })  # fmt: skip

    def worst(self, system: System, texts: list[str]) -> list[tuple[float, int]] | None:
        """The lowest values of the main metric, and whose they are."""
        found = self.study.once(f"each-{_file(system)}", [system.identity, self.asked], lambda: self._of_each(texts))
        if found is None:
            return None
        return sorted((value, number) for number, value in enumerate(found["values"]))[:WORST]

    def _of_each(self, texts: list[str]) -> dict[str, Any]:
        targets = [list(pair.targets) for pair in self.pairs]
        return {"values": metric_of_each(texts, targets, _sources(self.pairs), self.main, self.scorers).tolist()}

    def timings(self) -> dict[str, dict[str, float]]:
        """Seconds a text of every system at batch 1 and 64: medians over rounds."""
        names = [[system.name, system.identity] for system in self.systems]
        return self.study.once("timings", [names, self.asked, self.plan.rounds, self.plan.threads], self._timed) or {}

    def _timed(self) -> dict[str, dict[str, float]]:
        sources = _sources(self.pairs)

        def writer(system: System) -> Callable[[int, int], list[str]]:
            return lambda n, seed: system.write([sources[(seed * n + i) % len(sources)] for i in range(n)], seed)

        writers = {system.name: writer(system) for system in self.systems}
        taken = in_rounds(writers, BATCHES, self.plan.rounds, self.plan.seed)
        return {name: {str(n): seconds_a_text(w) for n, w in sizes.items()} for name, sizes in taken.items()}


def _sources(pairs: Sequence[Row]) -> list[str]:
    return [pair.source or "" for pair in pairs]


def _file(system: System) -> str:
    """Its name as part of a file's."""
    return "".join(sign if sign.isalnum() or sign in "-." else "-" for sign in system.name)


# --- the page


def study(plan: TaskPlan, say: Callable[[str], None] = tell) -> Path:
    """Measure what is not measured yet, and write the page."""
    work = TaskStudy(plan, say)
    texts = {system.name: work.texts(system) for system in work.systems}
    known = {system.name: work.quality(system, texts[system.name]) for system in work.systems}
    timings = work.timings()
    rows = [_row(work, system.name, known[system.name], timings.get(system.name)) for system in work.systems]
    if human := work.human():
        rows.append(_row(work, "first reference", human, None))
    head = ("system", *(label(name).title for name in work.metrics), "s / text, batch 1", "batch 64")
    tables = [markdown_table(head, rows), markdown_table(("system", "parameters: token embeddings and heads", "other"), work.sizes)]
    if plan.show != "none":
        tables += [_samples(work, texts), _failures(work, texts)]
    names = [given if is_rule(given) else plain(given) for given in plan.systems]
    options = [plan.task, *names, *_flags("steps", plan.steps), *_flags("guidance", plan.guidance)]
    options += [*_flags("mbr", plan.mbr), *_flags("best", plan.best), *_flags("lm-weight", plan.lm_weight)]
    options += _flags("strength", plan.strength)
    options += _flags("beams", plan.beams)
    options += [*(["--probe", "PROBE", "--label", plan.label] if plan.probe else []), "--rounds", str(plan.rounds)]
    options += ["--samples", plan.samples.name] if plan.samples else []
    title = plan.task.replace("-", " ").capitalize()
    panels = _panels(work, known, timings)
    return write_page(plan.docs, plan.task, title, _said(work), tables, panels, command("task", plan, *options))


def _row(
    work: TaskStudy, name: str, known: dict[str, Any] | None, timing: dict[str, float] | None
) -> tuple[str, ...]:
    speeds = [f"{timing[str(n)]:.3f}" if timing else "-" for n in BATCHES]
    return (name, *(shown((known or {}).get(metric)) for metric in work.metrics), *speeds)


def _said(work: TaskStudy) -> list[str]:
    plan, task = work.plan, named_task(work.plan.task)
    judged = [f"{name}: {label(name).sentence}" for name in work.metrics]
    asked = [name for name in ("toxicity", "fluency") if name in work.metrics] + ["encoder"]
    scorers = "; ".join(f"{what}: {who}" for what, who in work.scorers.names.items() if what in asked)
    about = (
        f"{task.sentence} {SIZES_SAID[plan.size]} {len(work.pairs):,} different sources of {plan.test.name}, seed "
        f"{plan.seed}; intervals are of 95 %. Scored by: {scorers}. {plan.rounds} rounds of timing over all systems, "
        f"{plan.threads} CPU threads, the reading of the source included; the medians are shown. The frozen encoder that "
        "reads sources for our models is not among the parameters; nor is the compressor, which only training needs."
    )
    said = [about, "; ".join(judged) + "."]
    return said + ([f"Not measured for want of time: {', '.join(work.study.missing)}."] if work.study.missing else [])


def _samples(work: TaskStudy, texts: dict[str, list[str] | None]) -> str:
    """Pairs beside the answers of one system of each path; ``texts`` answer the pairs that are measured."""
    of_test = work.plan.samples is None
    beside = {s.name: texts[s.name] if of_test else work.samples_of(s) for s in work.systems if s.is_shown}
    parts = [_one(work, pair, beside, number) for number, pair in enumerate(work.samples)]
    title = f"The first {len(parts)}" if of_test else f"{len(parts)} written for this page"
    return "\n\n".join([f"## {title}, unpicked", *parts])


def _failures(work: TaskStudy, texts: dict[str, list[str] | None]) -> str:
    """Where the first system that is shown does worst; nothing where the pairs may not stand on the page."""
    system = next((system for system in work.systems if system.is_shown and texts[system.name]), None)
    if system is None or work.plan.samples is not None:
        return ""
    worst = work.worst(system, texts[system.name] or []) or []
    beside = {system.name: texts[system.name] for system in work.systems if system.is_shown}
    by = label(work.main).title
    parts = [_one(work, work.pairs[number], beside, number, f"{by} {value:.2f}") for value, number in worst]
    return "\n\n".join([f"## What fails: the {len(parts)} worst of {system.name}, by {by}", *parts])


def _one(work: TaskStudy, pair: Row, texts: dict[str, list[str] | None], number: int, note: str = "") -> str:
    """A pair and its answers, a line each."""
    lines = _given(pair) if work.plan.show == "all" else []
    lines += [(name, answers[number]) for name, answers in texts.items() if answers]
    items = [f"- {name}: {_line(text) or '(nothing)'}" for name, text in lines]
    return "\n".join([f"**{number + 1}**{f' ({note})' if note else ''}", "", *items])


def _given(pair: Row) -> list[tuple[str, str]]:
    source = pair.source or ""
    cut = source if len(source) <= LONGEST_SHOWN else source[:LONGEST_SHOWN].rsplit(" ", 1)[0] + " ..."
    return [("*source*", cut), *(("*reference*", target) for target in pair.targets)]


def _line(text: str) -> str:
    """One line, in which nothing is Markdown."""
    line = " ".join(text.split())
    return "".join("\\" + sign if sign in "\\`*_[]<>#|" else sign for sign in line)


def _flags(name: str, values: Sequence[float]) -> list[str]:
    return [f"--{name}", *(f"{value:g}" for value in values)] if values else []


def _panels(
    work: TaskStudy, known: dict[str, dict[str, Any] | None], timings: dict[str, dict[str, float]]
) -> Iterator[Panel]:
    """The main metric over seconds a text: a line over the steps of each model of ours, points for all else."""
    title = label(work.main).title
    for size in BATCHES:
        lines = []
        for group, joined in dict.fromkeys((system.group, system.speed_steps is not None) for system in work.systems):
            mine = [s for s in work.systems if (s.group, s.speed_steps is not None) == (group, joined)]
            points = [
                (timings[s.name][str(size)], (known[s.name] or {})[work.main])
                for s in mine if s.name in timings and known[s.name]
            ]  # fmt: skip
            others = "" if joined or all(s.speed_steps is None for s in work.systems if s.group == group) else ", other"
            lines.append(curve(group + others, sorted(points, key=lambda point: point[0]), joined))
        yield Panel(f"{title} and speed, batch {size}", "seconds a text", title, lines, log_x=True)


if __name__ == "__main__":
    chosen = tyro.cli(TaskPlan, description=__doc__)
    run("task", lambda: study(chosen))
