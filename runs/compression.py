"""What compression costs: the same recipe with fewer and fewer latents for a text, from N = 64 to N = 4.

    python runs/compression.py DATA --test TEST.jsonl --out DIR
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from page import Panel, curve, shown, write_page
from study import Study, command, run, tell
from variants import TrainingPlan, Variant, Workshop, budget, budget_options, described, measure

from textcosm.diffusion.schedule import TanSchedule
from textcosm.evaluation.markdown import markdown_table
from textcosm.training.recipe import Recipe

LATENTS = (16, 4, 64, 8, 32)
"""In the order of training: the ends early, so that half a study already spans the range."""
MANY = 64
"""Latents from which on the paper's schedule has d = 7."""


@dataclass(frozen=True, kw_only=True)
class CompressionPlan(TrainingPlan):
    """Which numbers of latents."""

    latents: tuple[int, ...] = LATENTS


def variant(recipe: Recipe, latents: int) -> Recipe:
    """The recipe with so many latents, and the paper's schedule for them."""
    autoencoder = replace(recipe.model.autoencoder, num_latents=latents)
    schedule = TanSchedule(d=7.0) if latents >= MANY else recipe.model.schedule
    return replace(recipe, model=replace(recipe.model, autoencoder=autoencoder, schedule=schedule))


def study(plan: CompressionPlan, say=tell) -> Path:
    """Train and measure every variant that is not done yet, and write the page."""
    work = Study(plan, say)
    shop = Workshop(plan, work)
    rows = []
    for latents in plan.latents:
        trained = shop.trained(f"latents-{latents}", variant(plan.recipe, latents))
        if trained is not None:
            found = measure(work, trained)
            if found is not None:
                rows.append((latents, trained, found))
    return _page(plan, work, sorted(rows, key=lambda row: row[0]))


Row = tuple[int, Variant, dict[str, Any]]


def _page(plan: CompressionPlan, work: Study, rows: Sequence[Row]) -> Path:
    real = work.real()
    said = [
        f"One recipe with N latents a text, from N = {min(plan.latents)} to {max(plan.latents)}. {described(plan.recipe)} "
        f"{budget(plan)} Accuracy is the share of tokens of held-out texts that come back; seconds a text are of sampling "
        "and decoding in batches of 64.",
        *work.said(),
    ]
    head = ("N", "steps", "accuracy", "BLEU", "MAUVE", "PPL", "Div", "s / text")
    cells = [(str(n), trained.said(), *_measures(found), f"{found['seconds_per_text']:.3f}") for n, trained, found in rows]
    if real:
        cells.append(("real texts", "", "", "", *_qualities(real), ""))
    panels = [
        _panel(rows, "MAUVE", "mauve"),
        _panel(rows, "perplexity", "perplexity", log=True),
        _panel(rows, "token accuracy", "token_accuracy"),
    ]
    options = [plan.data.name, *budget_options(plan), "--latents", *map(str, plan.latents)]
    line = command("compression", plan, *options)
    return write_page(plan.docs, "compression", "What compression costs", said, [markdown_table(head, cells)], panels, line)


def _measures(found: dict[str, Any]) -> tuple[str, ...]:
    return shown(found["token_accuracy"]), shown(found["bleu"]), *_qualities(found)


def _qualities(found: dict[str, Any]) -> tuple[str, ...]:
    return shown(found["mauve"]), shown(found["perplexity"], 0), shown(found["diversity"])


def _panel(rows: Sequence[Row], title: str, measure: str, log: bool = False) -> Panel:
    points = [(float(n), found[measure]) for n, _, found in rows]
    return Panel(title, "latents N", title, [curve(title, points)], log_x=True, log_y=log)


if __name__ == "__main__":
    chosen = tyro.cli(CompressionPlan, description=__doc__)
    run("compression", lambda: study(chosen))
