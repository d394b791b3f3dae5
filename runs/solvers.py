"""How few steps will do: quality of a model's texts for every solver, number of steps, end time and kind of end.

    python runs/solvers.py MODEL --test TEST.jsonl --out DIR

The most telling settings come first, so that ``--max-minutes`` cuts the least telling ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from page import Panel, curve, shown, write_page
from study import Plan, Study, command, open_model, run, seconds, tell

from textcosm.diffusion.sampling import SamplerConfig
from textcosm.diffusion.solvers import SOLVERS
from textcosm.evaluation.markdown import markdown_table

STEPS = (1, 2, 5, 10, 20, 50, 100, 200)
END_TIMES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
FIRST = "dpm++2m"
"""The solver whose curve is measured first and at every number of steps."""
REFERENCE = "euler-maruyama"
AT_STEPS = 20
"""Steps at which end times and ends are compared."""


@dataclass(frozen=True, kw_only=True)
class SolversPlan(Plan):
    """Which model, and which settings of its sampler."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "stories-16"
    """A shipped name, a model folder or a training run."""
    steps: tuple[int, ...] = STEPS
    solvers: tuple[str, ...] = tuple(SOLVERS)
    end_times: tuple[float, ...] = END_TIMES


def settings(plan: SolversPlan, own: SamplerConfig) -> list[SamplerConfig]:
    """All settings to measure, each once; ``own`` gives the end time, end and grid wherever another thing is varied.

    The small size leaves out other solvers' 1, 2, 100 and 200 steps.
    """
    own = replace(own, final="clean", lm_weight=0.0)  # n-grams would write over what solvers differ in
    few = plan.steps if plan.size == "full" else tuple(s for s in plan.steps if 5 <= s <= 50) or plan.steps
    middle = AT_STEPS if AT_STEPS in plan.steps else max(plan.steps)
    order = [name for name in (FIRST, REFERENCE) if name in plan.solvers]
    others = [name for name in plan.solvers if name not in order]
    found = [replace(own, solver=FIRST, steps=steps) for steps in plan.steps if steps <= 50]
    found += [replace(own, solver=FIRST, steps=middle, end_time=end) for end in plan.end_times]
    found += [replace(own, solver=name, steps=steps) for name in order[1:] + others for steps in few]
    ends = sorted({min(plan.end_times, default=own.end_time), own.end_time})
    found += [replace(own, solver=name, steps=middle, end_time=end, final="mean") for name in order for end in ends]
    found += [replace(own, solver=REFERENCE, steps=middle, end_time=end) for end in ends if REFERENCE in plan.solvers]
    found += [replace(own, solver=name, steps=steps) for name in order for steps in plan.steps if steps > 50]
    return list(dict.fromkeys(config for config in found if config.solver in plan.solvers))


def study(plan: SolversPlan, say=tell) -> Path:
    """Measure every setting that is not measured yet, and write the page."""
    work = Study(plan, say)
    model, identity = open_model(plan.model, plan)

    def measured(sampler: SamplerConfig) -> dict[str, Any]:
        spent, texts = seconds(lambda: model.sample(plan.count, seed=plan.seed, sampler=sampler))
        return {**work.quality(texts), "seconds_per_text": spent / plan.count}

    rows = []
    for sampler in settings(plan, model.config.sampler):
        name = f"{sampler.solver}-{sampler.steps}-{sampler.end_time:g}-{sampler.final}"
        found = work.once(name, [identity, asdict(sampler)], lambda config=sampler: measured(config))
        if found is not None:
            rows.append((sampler, found))
    return _page(plan, work, replace(model.config.sampler, final="clean"), rows)


Row = tuple[SamplerConfig, dict[str, Any]]


def passes(sampler: SamplerConfig) -> int:
    """Passes of the denoiser for one text."""
    return 2 * sampler.steps - 1 if sampler.solver == "heun" else sampler.steps


def _page(plan: SolversPlan, work: Study, own: SamplerConfig, rows: Sequence[Row]) -> Path:
    name, real = Path(plan.model).name, work.real()
    said = [
        f"Model {name}: each solver at each number of steps to time {own.end_time:g}, then end times, then the two ends "
        "(clean: the denoiser's last guess; mean: the last step without its noise, as in the paper's code). A pass is one "
        "run of the denoiser; all settings start from the same noise, and the decoder alone writes (lm weight 0).",
        *work.said(),
    ]
    head = ("solver", "steps", "passes", "end time", "end", "MAUVE", "PPL", "Div", "words", "s / text")
    cells = [_cells(sampler, found) for sampler, found in rows]
    if real:
        cells.append(("real texts", "", "", "", "", *_measures(real), f"{real['words']:.0f}", ""))
    panels = [*_by_steps(own, rows), *_by_end(own, rows)]
    line = command("solvers", plan, name)
    return write_page(plan.docs, "solvers", "Solvers and steps", said, [markdown_table(head, cells)], panels, line)


def _cells(sampler: SamplerConfig, found: dict[str, Any]) -> tuple[str, ...]:
    setting = (sampler.solver, str(sampler.steps), str(passes(sampler)), f"{sampler.end_time:g}", sampler.final)
    return (*setting, *_measures(found), f"{found['words']:.0f}", f"{found['seconds_per_text']:.3f}")


def _measures(found: dict[str, Any]) -> tuple[str, ...]:
    return shown(found["mauve"]), shown(found["perplexity"], 0), shown(found["diversity"])


def _by_steps(own: SamplerConfig, rows: Sequence[Row]) -> Iterator[Panel]:
    plain = [(s, f) for s, f in rows if s.end_time == own.end_time and s.final == "clean"]
    solvers = list(dict.fromkeys(s.solver for s, _ in plain))
    for measure, title, log in (("mauve", "MAUVE", False), ("perplexity", "perplexity", True)):
        lines = [
            curve(solver, sorted(((passes(s), f[measure]) for s, f in plain if s.solver == solver), key=lambda p: p[0]))
            for solver in solvers
        ]
        yield Panel(f"{title} against passes", "passes of the denoiser", title, lines, log_x=True, log_y=log)


def _by_end(own: SamplerConfig, rows: Sequence[Row]) -> Iterator[Panel]:
    ends = [(s, f) for s, f in rows if s.steps == _steps_of_ends(rows)]
    kinds = list(dict.fromkeys((s.solver, s.final) for s, _ in ends))
    for measure, title in (("mauve", "MAUVE"), ("perplexity", "perplexity")):
        lines = []
        for solver, final in kinds:
            points = [(s.end_time, f[measure]) for s, f in ends if (s.solver, s.final) == (solver, final)]
            if len(points) > 1:
                lines.append(curve(f"{solver}, {final}", sorted(points, key=lambda point: point[0])))
        yield Panel(f"{title} against the end time", "end time", title, lines)


def _steps_of_ends(rows: Sequence[Row]) -> int:
    """The number of steps at which end times were varied."""
    counts = [s.steps for s, _ in rows]
    return max(set(counts), key=lambda steps: (len({s.end_time for s, _ in rows if s.steps == steps}), -steps), default=0)


if __name__ == "__main__":
    chosen = tyro.cli(SolversPlan, description=__doc__)
    run("solvers", lambda: study(chosen))
