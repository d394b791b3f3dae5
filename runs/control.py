"""What a hand on the wheel is worth: rewriting, wanted lengths, blanks filled and texts continued, measured and shown.

    python runs/control.py MODEL --test TEST.jsonl --out DIR

Writes ``--docs/control.md`` with twenty unpicked outputs of each. Held-out texts give what is rewritten, the blanks (a
third of the tokens, from the end of the first third on) and the beginnings (the first third).
"""

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from page import shown
from study import Plan, Study, command, open_model, run, tell

from textcosm.checkpoint import whole_file
from textcosm.control.infill import Filled
from textcosm.evaluation.markdown import markdown_table
from textcosm.pipeline import TextDiffusion

SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class ControlPlan(Plan):
    """Which model, and how strongly and to which lengths."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "stories-16"
    """A shipped name, a model folder or a training run."""
    docs: Path = Path("docs")
    strengths: tuple[float, ...] = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    lengths: tuple[int, ...] = (30, 40, 50, 60)
    """Tokens."""
    steps: int | None = None
    """The model's own by default."""


def study(plan: ControlPlan, say=tell) -> Path:
    """Measure what is not measured yet, and write the page."""
    work = Study(plan, say)
    model, identity = open_model(plan.model, plan)
    texts, options = work.held_out[1], {"seed": plan.seed, "steps": plan.steps}

    def rewritten(strength: float) -> dict[str, Any]:
        found = model.rewrite(texts, strength, **options)
        kept = statistics.fmean(overlap(model, a, b) for a, b in zip(texts, found, strict=True))
        return {"kept": kept, "perplexity": work.perplexity(found), "texts": found[:SHOWN]}

    def of_length(length: int) -> dict[str, Any]:
        found = model.sample(len(texts), length=length, **options)
        longest = model.config.autoencoder.max_length
        off = [int(row.sum()) - 2 - length for row in model.tokenizer.tokenize(found, longest).mask]
        whole = sum(text.rstrip("\"')").endswith((".", "!", "?")) for text in found) / len(found)
        error = statistics.fmean(map(abs, off))
        return {"error": error, "whole": whole, "perplexity": work.perplexity(found), "texts": found[:SHOWN]}

    def filled(found: list[Filled]) -> dict[str, Any]:
        perplexity, kept = work.perplexity([one.text for one in found]), statistics.fmean(one.kept for one in found)
        return {"kept": kept, "perplexity": perplexity, "texts": [one.text for one in found[:SHOWN]]}

    thirds = [split(text) for text in texts]
    blanks = [f"{first} ____ {last}" for first, _, last in thirds]
    lengths = [max(1, len(model.tokenizer.tokenize([middle], 512).tokens[0]) - 2) for _, middle, _ in thirds]

    def infilled() -> dict[str, Any]:
        return filled(model.infill(blanks, length=lengths, **options))

    def continued() -> dict[str, Any]:
        return filled(model.complete([first for first, _, _ in thirds], **options))

    def once(name: str, settings: Any, measure) -> dict[str, Any] | None:
        return work.once(name, [identity, plan.steps, settings], measure)

    real = work.once("real-perplexity", {}, lambda: {"perplexity": work.perplexity(texts)})
    rewriting = {s: once(f"rewrite-{s:g}", s, lambda s=s: rewritten(s)) for s in plan.strengths}
    sizes = {k: once(f"length-{k}", k, lambda k=k: of_length(k)) for k in plan.lengths}
    filling = once("infill", "infill", infilled)
    continuing = once("continue", "continue", continued)
    parts = [
        "# A hand on the wheel",
        *work.said(),
        f"Judge perplexity of the held-out texts themselves: {shown(real and real['perplexity'], 1)}.",
        *_rewriting(rewriting, texts),
        *_lengths(sizes),
        *_filling("Filling blanks", filling, blanks),
        *_filling("Continuing", continuing, [first for first, _, _ in thirds]),
        f"```bash\n{command('control', plan, Path(plan.model).name)}\n```",
    ]
    plan.docs.mkdir(parents=True, exist_ok=True)
    with whole_file(plan.docs / "control.md") as file:
        file.write("\n\n".join(filter(None, parts)) + "\n")
    return plan.docs / "control.md"


def split(text: str) -> tuple[str, str, str]:
    """A text in three parts of about equally many words."""
    found = text.split()
    a, b = max(1, len(found) // 3), max(2, 2 * len(found) // 3)
    return " ".join(found[:a]), " ".join(found[a:b]), " ".join(found[b:])


def overlap(model: TextDiffusion, source: str, text: str) -> float:
    """The share of a source's tokens that the text has as well, each as often as it stands there, in any order."""
    longest = model.config.autoencoder.max_length
    a, b = (Counter(model.tokenizer.tokenize([t], longest).tokens[0, 1:-1].tolist()) for t in (source, text))
    return (a & b).total() / max(1, a.total())


def _rewriting(found: dict[float, dict[str, Any] | None], texts: list[str]) -> list[str]:
    rows = [
        (f"{strength:g}", f"{one['kept']:.3f}", shown(one["perplexity"], 1)) for strength, one in found.items() if one
    ]
    head = ("strength", "tokens of the source kept", "perplexity [95 %]")
    last = next((one["texts"] for strength, one in found.items() if one and strength >= 0.3), [])
    pairs = [(source, text) for source, text in zip(texts, last, strict=False)]
    said = "Tokens kept: the share of the source's tokens that are in the rewritten text, in any order."
    return ["## Rewriting", said, markdown_table(head, rows), "### Unpicked", markdown_table(("source", "rewritten"), clean(pairs))]


def _lengths(found: dict[int, dict[str, Any] | None]) -> list[str]:
    there = [(length, one) for length, one in found.items() if one]
    rows = [
        (str(length), f"{one['error']:.2f}", f"{one['whole']:.3f}", shown(one["perplexity"], 1)) for length, one in there
    ]
    head = ("tokens wanted", "mean absolute error", "texts that end with a sentence", "perplexity [95 %]")
    each = max(1, SHOWN // max(1, len(there)))
    pairs = [(str(length), text) for length, one in there for text in one["texts"][:each]]
    return ["## Length", markdown_table(head, rows), "### Unpicked lengths", markdown_table(("tokens wanted", "text"), clean(pairs))]


def _filling(title: str, found: dict[str, Any] | None, given: list[str]) -> list[str]:
    if found is None:
        return []
    said = (
        f"The decoder itself kept {found['kept']:.3f} of the given tokens, before they were written in; "
        f"perplexity of the whole texts {shown(found['perplexity'], 1)}."
    )
    pairs = clean(list(zip(given, found["texts"], strict=False)))
    return [f"## {title}", said, markdown_table(("given", "text"), pairs)]


def clean(rows: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Cells on one line."""
    return [tuple(" ".join(cell.replace("_", "\\_").split()) for cell in row) for row in rows]


if __name__ == "__main__":
    chosen = tyro.cli(ControlPlan, description=__doc__)
    run("control", lambda: study(chosen))
