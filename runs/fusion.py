"""What a text owes to n-grams: quality of a model's texts for every weight of them, with refinements and without.

    python runs/fusion.py MODEL --train TRAIN.jsonl --test TEST.jsonl --out DIR

Beside them stand texts of the n-grams alone, which no latent asked for, and real ones.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from page import Panel, curve, shown, write_page
from study import Plan, Study, command, open_model, run, seconds, tell

from textcosm.baselines.systems import open_systems, without_folders
from textcosm.diffusion.sampling import seeds_of
from textcosm.errors import ConfigError
from textcosm.evaluation.markdown import markdown_table
from textcosm.evaluation.metrics import memorisation
from textcosm.pipeline import TextDiffusion
from textcosm.tasks.files import read_texts
from textcosm.text.ngrams import NONE


@dataclass(frozen=True, kw_only=True)
class FusionPlan(Plan):
    """Which model, and how much of what."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")] = "stories-16"
    """A shipped name, a model folder or a training run."""
    train: Path
    """The texts that it was trained on: what counts as memorised."""
    steps: int = 10
    weights: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5)
    refine: tuple[int, ...] = (0, 2, 4)
    beside: tuple[str, ...] = ()
    """Other models and rivals to set beside them, each at its own steps or also with @STEPS+REFINEMENTS."""


def study(plan: FusionPlan, say=tell) -> Path:
    """Measure every weight at every number of refinements, and write the page."""
    work = Study(plan, say)
    model, identity = open_model(plan.model, plan)
    training_texts = list(read_texts(plan.train, plan.text_field))

    def measured(texts: Sequence[str], spent: float | None = None) -> dict[str, Any]:
        mem = memorisation(texts, training_texts)
        return {**work.quality(texts), "memorised": asdict(mem), "seconds": spent and spent / plan.count}

    def timed(write: Callable[[int], list[str]]) -> dict[str, Any]:
        write(2)  # what is opened at first use is no part of a text
        spent, texts = seconds(lambda: write(plan.count))
        return measured(texts, spent)

    def written(weight: float, refine: int) -> dict[str, Any]:
        return timed(lambda n: model.sample(n, seed=plan.seed, steps=plan.steps, lm_weight=weight, refine=refine))

    rows = []
    for refine in plan.refine:
        for weight in plan.weights:
            found = work.once(f"{weight:g}+{refine}", [identity, plan.steps], lambda w=weight, r=refine: written(w, r))
            rows.append((weight, refine, found))
    others = {}
    for system in open_systems(plan.beside, (plan.steps,), plan.device, seed=plan.seed):
        write = partial(system.write, seed=plan.seed)
        others[system.name] = work.once(system.name, system.subject.manifest, lambda write=write: timed(write))
    others["n-grams alone"] = work.once("alone", identity, lambda: measured(of_ngrams(model, plan.count, plan.seed)))
    others["real texts"] = work.once("real-mem", {}, lambda: measured(work.held_out[1]))
    return _page(plan, work, rows, others)


def of_ngrams(model: TextDiffusion, count: int, seed: int) -> list[str]:
    """Texts drawn from the n-grams of a model, a token after the other, of the length that they come to."""
    if model.ngrams is None:
        raise ConfigError("this model holds no n-grams: export it again (train --stage export)")
    special, limit = model.tokenizer.special, model.config.autoencoder.max_length
    generator = torch.Generator().manual_seed(seeds_of(seed, 1)[0])
    every = torch.arange(model.ngrams.vocab_size)
    share = model.ngrams.unigrams.float()
    share[[special.start, special.pad, special.mask]] = 0
    tokens = torch.full((count, 1), special.start)
    pair = torch.full((count,), NONE)
    for _ in range(limit - 2):
        chosen = []
        for row in range(count):
            given = [part[row].expand_as(every) for part in (pair, tokens[:, -1])]
            ratio, ending = model.ngrams.follow(*given, every)
            drawn = torch.multinomial(share * ratio.exp(), 1, generator=generator)
            chosen.append(torch.cat((drawn, ending[drawn])))
        drawn, pair = torch.stack(chosen).T
        tokens = torch.cat((tokens, drawn[:, None]), 1)
        if (tokens == special.end).any(1).all():
            break
    return model.tokenizer.detokenize(tokens, model.tokenizer.default_forms(tokens))


Row = tuple[float, int, dict[str, Any] | None]


def _page(plan: FusionPlan, work: Study, rows: Sequence[Row], others: dict[str, dict[str, Any] | None]) -> Path:
    name = Path(plan.model).name
    said = [
        f"Model {name}, {plan.steps} steps: the weight of the n-grams of its training texts in the choice of words "
        "(0: the decoder alone; 1: Bayes' rule), by the number of refinements. Mem: the share of 4-grams that stand in a "
        "training text. Texts are written 64 at a time.",
        *work.said(),
    ]
    head = ("lm weight", "refinements", "MAUVE", "PPL", "Div", "Mem", "words", "s / text")
    cells = [(f"{weight:g}", str(refine), *_measures(found)) for weight, refine, found in rows if found]
    cells += [(name, "", *_measures(found)) for name, found in others.items() if found]
    asked = ["--refine", *map(str, plan.refine), *(["--beside", *map(without_folders, plan.beside)] if plan.beside else [])]
    line = command("fusion", plan, name, "--train", plan.train.name, *asked)
    return write_page(plan.docs, "fusion", "Words that agree", said, [markdown_table(head, cells)], list(_panels(rows)), line)


def _measures(found: dict[str, Any]) -> tuple[str, ...]:
    spent = "" if found["seconds"] is None else f"{found['seconds']:.3f}"
    intervals = (shown(found["mauve"]), shown(found["perplexity"], 0), shown(found["diversity"]), shown(found["memorised"]))
    return (*intervals, f"{found['words']:.0f}", spent)


def _panels(rows: Sequence[Row]) -> Iterator[Panel]:
    """Quality against the weight, a line for each number of refinements."""
    for measure, title, log in (("mauve", "MAUVE", False), ("perplexity", "perplexity", True), ("diversity", "Div", False)):
        lines = []
        for refine in dict.fromkeys(refine for _, refine, _ in rows):
            points = [(weight, found[measure]) for weight, r, found in rows if r == refine and found]
            lines.append(curve(f"{refine} refinements", points))
        yield Panel(f"{title} against the weight", "weight of the n-grams", title, lines, log_y=log)


if __name__ == "__main__":
    run("fusion", lambda: study(tyro.cli(FusionPlan, description=__doc__)))
