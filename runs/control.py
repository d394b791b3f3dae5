"""What a hand on the wheel is worth: rewriting, wanted lengths, blanks filled and texts continued, measured and shown.

    python runs/control.py MODEL --test TEST.jsonl --out DIR

Writes ``--docs/control.md``. Held-out texts give what is measured: what is rewritten, the blanks (a third of the words,
from the end of the first third on) and the beginnings (the first third). What is shown, unpicked, is made of texts of our
own (``--examples``), since held-out ones may not be copied.
"""

import statistics
from collections import Counter
from collections.abc import Callable
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
STRENGTH_SHOWN = 0.3


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
    examples: Path = Path(__file__).with_name("examples.txt")
    """A text a line, for the page."""
    refine: int = 4
    """Refinements of what is filled, continued and of a wanted length, beside none."""
    best: int = 4
    """Candidates of what is filled and continued with refinements, beside one alone."""


def study(plan: ControlPlan, say=tell) -> Path:
    """Measure what is not measured yet, and write the page."""
    work = Study(plan, say)
    model, identity = open_model(plan.model, plan)
    texts, options = work.held_out[1], {"seed": plan.seed, "steps": plan.steps}

    def rewritten(strength: float) -> dict[str, Any]:
        found = model.rewrite(texts, strength, **options)
        kept = statistics.fmean(overlap(model, a, b) for a, b in zip(texts, found, strict=True))
        return {"kept": kept, "perplexity": work.perplexity(found)}

    def of_length(length: int, refine: int) -> dict[str, Any]:
        found = model.sample(len(texts), length=length, refine=refine, **options)
        longest = model.config.autoencoder.max_length
        off = [int(row.sum()) - 2 - length for row in model.tokenizer.tokenize(found, longest).mask]
        whole = sum(text.rstrip("\"')").endswith((".", "!", "?")) for text in found) / len(found)
        error = statistics.fmean(map(abs, off))
        return {"error": error, "whole": whole, "perplexity": work.perplexity(found), "texts": found[:SHOWN]}

    def filled(found: list[Filled]) -> dict[str, Any]:
        perplexity, kept = work.perplexity([one.text for one in found]), statistics.fmean(one.kept for one in found)
        return {"kept": kept, "perplexity": perplexity}

    thirds = [split(text) for text in texts]
    blanks = [blank(text) for text in texts]
    lengths = [max(1, len(model.tokenizer.tokenize([middle], 512).tokens[0]) - 2) for _, middle, _ in thirds]

    def infilled(refine: int, best: int) -> dict[str, Any]:
        return filled(model.infill(blanks, length=lengths, refine=refine, best=best, **options))

    def continued(refine: int, best: int) -> dict[str, Any]:
        return filled(model.complete([first for first, _, _ in thirds], refine=refine, best=best, **options))

    def both_ways(kind: str, measure: Callable[[int, int], dict[str, Any]]) -> dict[tuple[int, int], dict[str, Any] | None]:
        ways = [*((refine, 1) for refine in refined), *([(plan.refine, plan.best)] if plan.best > 1 else [])]
        names = {(r, k): (f"{kind}+{r}", [kind, r]) if k == 1 else (f"{kind}+{r}-best-{k}", [kind, r, k]) for r, k in ways}
        return {way: once(name, settings, lambda way=way: measure(*way)) for way, (name, settings) in names.items()}

    def once(name: str, settings: Any, measure) -> dict[str, Any] | None:
        return work.once(name, [identity, plan.steps, settings], measure)

    real = work.once("real-perplexity", {}, lambda: {"perplexity": work.perplexity(texts)})
    rewriting = {s: once(f"rewrite-{s:g}", s, lambda s=s: rewritten(s)) for s in plan.strengths}
    refined = sorted({0, plan.refine})
    sizes = {(k, r): once(f"length-{k}+{r}", [k, r], lambda k=k, r=r: of_length(k, r)) for k in plan.lengths for r in refined}
    filling, continuing = both_ways("infill", infilled), both_ways("continue", continued)
    examples = plan.examples.read_text(encoding="utf-8").splitlines()[:SHOWN]

    def exemplary() -> dict[str, list[str]]:
        refine = plan.refine
        filled = model.infill([blank(text) for text in examples], refine=refine, **options)
        begun = model.complete([split(text)[0] for text in examples], refine=refine, **options)
        return {
            "rewritten": model.rewrite(examples, STRENGTH_SHOWN, **options),
            "filled": [one.text for one in filled],
            "continued": [one.text for one in begun],
        }

    seen = once("examples", [examples, plan.refine], exemplary) or {"rewritten": [], "filled": [], "continued": []}
    parts = [
        "# A hand on the wheel",
        *work.said(),
        f"Judge perplexity of the held-out texts themselves: {shown(real and real['perplexity'], 1)}.",
        *_rewriting(rewriting),
        *_examples("text", f"rewritten at {STRENGTH_SHOWN:g}", examples, seen["rewritten"]),
        *_lengths(sizes),
        *_filling("Filling blanks", filling),
        *_examples("given", f"filled, {plan.refine} refinements", [blank(t) for t in examples], seen["filled"]),
        *_filling("Continuing", continuing),
        *_examples("given", f"continued, {plan.refine} refinements", [split(t)[0] for t in examples], seen["continued"]),
        f"```bash\n{command('control', plan, Path(plan.model).name, '--best', str(plan.best))}\n```",
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


def blank(text: str) -> str:
    """A text with its second third to be filled."""
    first, _, last = split(text)
    return f"{first} ____ {last}"


def overlap(model: TextDiffusion, source: str, text: str) -> float:
    """The share of a source's tokens that the text has as well, each as often as it stands there, in any order."""
    longest = model.config.autoencoder.max_length
    a, b = (Counter(model.tokenizer.tokenize([t], longest).tokens[0, 1:-1].tolist()) for t in (source, text))
    return (a & b).total() / max(1, a.total())


def _rewriting(found: dict[float, dict[str, Any] | None]) -> list[str]:
    rows = [
        (f"{strength:g}", f"{one['kept']:.3f}", shown(one["perplexity"], 1)) for strength, one in found.items() if one
    ]
    head = ("strength", "tokens of the source kept", "perplexity [95 %]")
    said = "Tokens kept: the share of the source's tokens that are in the rewritten text, in any order."
    return ["## Rewriting", said, markdown_table(head, rows)]


def _lengths(found: dict[tuple[int, int], dict[str, Any] | None]) -> list[str]:
    there = [(length, refine, one) for (length, refine), one in found.items() if one]
    rows = [
        (str(length), str(refine), f"{one['error']:.2f}", f"{one['whole']:.3f}", shown(one["perplexity"], 1))
        for length, refine, one in there
    ]
    head = ("tokens wanted", "refinements", "mean absolute error", "texts that end with a sentence", "perplexity [95 %]")
    most = max((refine for _, refine, _ in there), default=0)
    chosen = [(length, one) for length, refine, one in there if refine == most]
    each = max(1, SHOWN // max(1, len(chosen)))
    pairs = [(str(length), text) for length, one in chosen for text in one["texts"][:each]]
    return ["## Length", markdown_table(head, rows), "### Unpicked lengths", markdown_table(("tokens wanted", "text"), clean(pairs))]


def _filling(title: str, found: dict[tuple[int, int], dict[str, Any] | None]) -> list[str]:
    there = {way: one for way, one in found.items() if one}
    if not there:
        return []
    said = "Kept: the share of the given tokens that the decoder itself put at their places, before they were written in."
    rows = [(*map(str, way), f"{one['kept']:.3f}", shown(one["perplexity"], 1)) for way, one in there.items()]
    head = ("refinements", "best of", "given tokens kept", "perplexity of the whole texts [95 %]")
    return [f"## {title}", said, markdown_table(head, rows)]


def _examples(given: str, made: str, examples: list[str], found: list[str]) -> list[str]:
    """Texts of our own beside what became of them."""
    return [markdown_table((given, made), clean(list(zip(examples, found, strict=False))))] if found else []


def clean(rows: list[tuple[str, str]]) -> list[tuple[str, ...]]:
    """Cells on one line."""
    return [tuple(" ".join(cell.replace("_", "\\_").split()) for cell in row) for row in rows]


if __name__ == "__main__":
    chosen = tyro.cli(ControlPlan, description=__doc__)
    run("control", lambda: study(chosen))
