"""What makes the latent space smooth: four measures of it, for each rung of the ladder of autoencoders.

    python runs/smoothness.py DATA --test TEST.jsonl --out DIR

The measures: BLEU of texts decoded under latent noise; judge perplexity along interpolations between texts; how sampling
recovers from a spike of noise in its middle; MAUVE of texts decoded midway between nearest neighbours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import tyro
from page import Panel, curve, shown, write_page
from study import Study, command, open_model, run, tell
from variants import TrainingPlan, Variant, Workshop, budget, budget_options, described

from textcosm.diffusion.process import Point, ReverseProcess
from textcosm.diffusion.solvers import Solver, open_solver
from textcosm.errors import ConfigError
from textcosm.evaluation.markdown import markdown_table
from textcosm.evaluation.measure import measure_under_noise
from textcosm.evaluation.metrics import words
from textcosm.evaluation.results import bootstrap
from textcosm.pipeline import TextDiffusion, slerp
from textcosm.presets import LADDER, on_rung
from textcosm.shapes import Latents

SIGMAS = {"small": (0.0, 0.5, 1.0, 1.5, 2.0), "full": tuple(k / 4 for k in range(9))}
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
SPIKES = {"small": (0.5,), "full": (0.25, 0.5, 1.0)}
"""Standard deviations of the noise that is added in the middle of sampling."""


@dataclass(frozen=True, kw_only=True)
class SmoothnessPlan(TrainingPlan):
    """Which rungs."""

    rungs: tuple[str, ...] = tuple(LADDER)

    def __post_init__(self) -> None:
        for rung in self.rungs:
            if rung not in LADDER:
                raise ConfigError(f"there is no rung {rung!r}; choose among {', '.join(LADDER)}")


@dataclass(frozen=True)
class Spiked:
    """A solver that adds noise of standard deviation ``size`` in the first step that ends below time ``at``."""

    solver: Solver
    size: float
    at: float

    def step(self, process: ReverseProcess, now: Point, s: float, past: Point | None) -> Latents:
        there = self.solver.step(process, now, s, past)
        return there + self.size * process.draw() if s < self.at <= now.time else there


# --- measures


def under_noise(model: TextDiffusion, texts: Sequence[str], sigmas: Sequence[float], seed: int) -> dict[str, Any]:
    """BLEU of the texts decoded from noisy latents, by sigma."""
    found = measure_under_noise(model, model.encode(texts), texts, sigmas, seed)
    return {"bleu": [[level.sigma, asdict(level.bleu)] for level in found]}


def interpolations(model: TextDiffusion, texts: Sequence[str], work: Study) -> dict[str, Any]:
    """Judge perplexity at each share of the way between consecutive pairs of the texts."""
    latents = model.encode(texts)
    pairs = list(zip(latents[0::2], latents[1::2], strict=False))
    there = [model.decode(torch.stack([slerp(a, b, share) for a, b in pairs])) for share in SHARES]
    return {"pairs": len(pairs), "perplexity": [[x, work.perplexity(t)] for x, t in zip(SHARES, there, strict=True)]}


def recovery(model: TextDiffusion, count: int, spikes: Sequence[float], work: Study) -> dict[str, Any]:
    """Perplexity of samples with a spike of noise half way, and their words shared with those without."""
    seed, sampler = work.plan.seed, model.config.sampler
    middle = (1 + sampler.end_time) / 2
    plain = model.sample(count, seed=seed)
    found = {"perplexity": work.perplexity(plain), "chance": _shared(plain, plain[1:] + plain[:1]), "spikes": []}
    for size in spikes:
        spiked = model.sample(count, seed=seed, solver=Spiked(open_solver(sampler.solver), size, middle))
        row = {"size": size, "perplexity": work.perplexity(spiked), "overlap": _shared(spiked, plain)}
        found["spikes"].append(row)
    return found


def midpoints(model: TextDiffusion, texts: Sequence[str], work: Study) -> dict[str, Any]:
    """Quality of the texts midway between each text and its nearest neighbour, against the references."""
    latents = model.encode(texts)
    near = nearest(latents)
    return work.quality(model.decode(torch.stack([slerp(latents[i], latents[j], 0.5) for i, j in enumerate(near)])))


def nearest(latents: Latents) -> list[int]:
    """Each text's nearest other one, by the cosine of their latents."""
    unit = torch.nn.functional.normalize(latents.flatten(1), dim=1)
    return (unit @ unit.T).fill_diagonal_(-2).argmax(1).tolist()


def overlap(a: str, b: str) -> float:
    """F1 of the two texts' bags of words, from 0 to 1."""
    left, right = words(a), words(b)
    both = sum(min(left.count(word), right.count(word)) for word in set(left))
    return 2 * both / max(1, len(left) + len(right))


def _shared(texts: Sequence[str], others: Sequence[str]) -> dict[str, float]:
    found = [overlap(a, b) for a, b in zip(texts, others, strict=True)]
    return asdict(bootstrap(lambda chosen: fmean(found[i] for i in chosen), len(found), resamples=200))


# --- the study


def study(plan: SmoothnessPlan, say=tell) -> Path:
    """Train and measure every rung that is not done yet, and write the page."""
    work = Study(plan, say)
    shop = Workshop(plan, work)
    rows = []
    for rung in plan.rungs:
        trained = shop.trained(rung, on_rung(plan.recipe, rung))
        if trained is not None:
            rows.append((rung, trained, measure(work, trained, plan)))
    return _page(plan, work, rows)


def measure(work: Study, trained: Variant, plan: SmoothnessPlan) -> dict[str, dict[str, Any] | None]:
    """The four measures of one rung; None for those there was no time for."""
    model, identity = open_model(trained.folder, plan)
    texts, size = work.held_out[1], plan.size
    few = max(2, plan.count // 2)
    parts = {
        "noise": lambda: under_noise(model, texts, SIGMAS[size], plan.seed),
        "midpoints": lambda: midpoints(model, texts, work),
        "spike": lambda: recovery(model, few, SPIKES[size], work),
        "interpolation": lambda: interpolations(model, texts[:few], work),
    }
    return {name: work.once(f"{name}-{trained.folder.name}", [identity, size], part) for name, part in parts.items()}


Row = tuple[str, Variant, dict[str, dict[str, Any] | None]]


def _page(plan: SmoothnessPlan, work: Study, rows: Sequence[Row]) -> Path:
    few, real = max(2, plan.count // 2), work.real()
    said = [
        f"The ladder of autoencoders: each rung adds a part of the recipe. {described(plan.recipe)} {budget(plan)}",
        "BLEU is of the texts decoded under latent noise (in standard deviations of the latents) against the originals. "
        f"Interpolations are {few // 2} arcs between held-out texts, their ends being reconstructions. The spike is noise "
        f"of {SPIKES[plan.size][0]:g} standard deviations, added half way through sampling {few} texts; overlap is the F1 of "
        "words shared with the text sampled without it, chance that of unrelated samples. Midpoints are decoded midway "
        f"between each of {plan.count} held-out texts and its nearest neighbour.",
        *work.said(),
    ]
    tables = [_rungs(rows), *_tables(rows, real)]
    options = [plan.data.name, *budget_options(plan), "--rungs", *plan.rungs]
    return write_page(
        plan.docs, "smoothness", "What makes the space smooth", said, tables, list(_panels(rows)),
        command("smoothness", plan, *options),
    )  # fmt: skip


def _rungs(rows: Sequence[Row]) -> str:
    cells = [(r, LADDER[r].sentence, t.said(), f"{t.accuracy:.3f}" if t.accuracy else "-") for r, t, _ in rows]
    return markdown_table(("rung", "what it is", "steps", "token accuracy"), cells)


def _tables(rows: Sequence[Row], real: dict[str, Any] | None) -> Iterator[str]:
    noisy = [(rung, found["noise"]["bleu"]) for rung, _, found in rows if found["noise"]]
    if noisy:
        head = ("BLEU under noise", *(f"{sigma:g}" for sigma, _ in noisy[0][1]))
        yield markdown_table(head, [(rung, *(shown(level) for _, level in levels)) for rung, levels in noisy])
    between = [(rung, found["interpolation"]["perplexity"]) for rung, _, found in rows if found["interpolation"]]
    if between:
        head = ("perplexity on the way", *(f"{share:g}" for share, _ in between[0][1]))
        yield markdown_table(head, [(rung, *(shown(level, 0) for _, level in levels)) for rung, levels in between])
    spiked = [(rung, found["spike"]) for rung, _, found in rows if found["spike"]]
    cells = [(rung, *_spike(row, found)) for rung, found in spiked for row in found["spikes"]]
    yield markdown_table(("rung", "spike", "PPL without", "PPL with", "overlap", "chance"), cells)
    middles = [(rung, found["midpoints"]) for rung, _, found in rows if found["midpoints"]]
    middles += [("real texts", real)] if real and middles else []
    yield markdown_table(("midpoints", "MAUVE", "PPL"), [(r, shown(f["mauve"]), shown(f["perplexity"], 0)) for r, f in middles])


def _spike(row: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    sides = shown(found["perplexity"], 0), shown(row["perplexity"], 0)
    return (f"{row['size']:g}", *sides, shown(row["overlap"]), shown(found["chance"]))


def _panels(rows: Sequence[Row]) -> Iterator[Panel]:
    noisy = [curve(r, found["noise"]["bleu"]) for r, _, found in rows if found["noise"]]
    yield Panel("Decoding under noise", "noise on the latents", "BLEU", noisy)
    between = [curve(r, found["interpolation"]["perplexity"]) for r, _, found in rows if found["interpolation"]]
    yield Panel("Between two texts", "share of the way", "judge perplexity", between, log_y=True)
    middles = [(r, found["midpoints"]["mauve"]) for r, _, found in rows if found["midpoints"]]
    lines = [curve(r, [(float(place), value)], joined=False) for place, (r, value) in enumerate(middles, start=1)]
    yield Panel("Midway between neighbours", "rung", "MAUVE", lines)


if __name__ == "__main__":
    chosen = tyro.cli(SmoothnessPlan, description=__doc__)
    run("smoothness", lambda: study(chosen))
