"""What the studies share: a plan, results that are measured once and kept, held-out texts, and the judge's verdict.

A result is a JSON file in ``--out/results``, named after what was measured and a hash of all that could change it: the
same command goes on where it was stopped. With ``--max-minutes`` nothing new is begun after that time, and the page in
docs/ is written from what is there.
"""

import hashlib
import json
import random
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from textcosm.checkpoint import read_index, whole_file
from textcosm.errors import DataError, TextcosmError
from textcosm.evaluation.judges import Judge, default_cache, open_judge, perplexity
from textcosm.evaluation.mauve import mauve
from textcosm.evaluation.metrics import diversity_interval, words
from textcosm.pipeline import TextDiffusion, find_model
from textcosm.tasks.files import read_texts

SizeName = Literal["small", "full"]
TEXTS = {"small": 200, "full": 1000}
"""Texts of a measurement."""
SIZES_SAID = {
    "small": "Size: small (two CPU cores; the models are smaller and trained for minutes, so compare rows, not papers).",
    "full": "Size: full (one GPU).",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every study needs to be told."""

    test: Path
    """Texts that no model was trained on: references, and what is reconstructed."""
    out: Path
    """Where models and results go, and where they are found again."""
    docs: Path = Path("docs/studies")
    """Where the page goes."""
    size: SizeName = "small"
    """small for two CPU cores, full for a GPU."""
    texts: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: 200 small, 1000 full)")] = None
    """Texts of each measurement."""
    judge: str = "smollm2"
    """smollm2, a .gguf file, a model folder or a hub name."""
    readings: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where the judge's readings are kept; the user's cache by default, shared by all studies."""
    text_field: Annotated[str | None, tyro.conf.arg(metavar="FIELD")] = None
    """Which field holds the texts; guessed by default."""
    device: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """cpu, cuda, ...; the best one by default."""
    threads: int = 2
    """CPU threads."""
    seed: int = 0
    max_minutes: Annotated[float | None, tyro.conf.arg(metavar="M")] = None
    """Begin nothing new after this long; the same command goes on."""

    @property
    def count(self) -> int:
        """Texts of each measurement."""
        return self.texts or TEXTS[self.size]


class Study:
    """One call of a study's script."""

    def __init__(self, plan: Plan, say: Callable[[str], None] = lambda line: None):
        torch.set_num_threads(plan.threads)
        self.plan, self.say = plan, say
        self.end = None if plan.max_minutes is None else time.monotonic() + 60 * plan.max_minutes
        self.missing: list[str] = []
        """What there was no time for."""

    def seconds_left(self) -> float | None:
        """Until ``max_minutes`` are over; None where there is no limit."""
        return None if self.end is None else self.end - time.monotonic()

    def is_over(self) -> bool:
        left = self.seconds_left()
        return left is not None and left <= 0

    def once(self, name: str, settings: Any, work: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """The result of ``work``, from the last time if it is there; None where there is no time left for it.

        settings: everything besides the plan that could change the result, as plain JSON.
        """
        key = hashlib.sha256(json.dumps([self._common, settings], sort_keys=True).encode()).hexdigest()[:12]
        path = self.plan.out / "results" / f"{name}-{key}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        if self.is_over():
            self.missing.append(name)
            return None
        start = time.perf_counter()
        text = json.dumps(work(), indent=1, ensure_ascii=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(text)
        self.say(f"{name}: {time.perf_counter() - start:.0f} s")
        return json.loads(text)

    @cached_property
    def _common(self) -> list[Any]:
        plan = self.plan
        return [plan.judge, plan.count, plan.seed, plan.test.name, plan.test.stat().st_size, plan.text_field]

    # --- texts and verdicts

    @cached_property
    def held_out(self) -> tuple[list[str], list[str]]:
        """Two disjoint draws of held-out texts: references, and texts to work on."""
        texts, count = list(read_texts(self.plan.test, self.plan.text_field)), self.plan.count
        if len(texts) < 2 * count:
            raise DataError(
                f"{self.plan.test} holds {len(texts)} texts; --texts {count} needs twice as many as that: lower it"
            )
        drawn = random.Random(self.plan.seed).sample(texts, 2 * count)
        return drawn[:count], drawn[count:]

    @cached_property
    def judge(self) -> Judge:
        return open_judge(self.plan.judge, self.plan.device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def read(self, texts: Sequence[str]) -> Any:
        """The judge's Readings of the texts, kept on disk."""
        return self.judge.read(list(texts), cache=self.plan.readings or default_cache())

    @cached_property
    def reference_features(self) -> Any:
        return self.read(self.held_out[0]).features

    def quality(self, texts: Sequence[str]) -> dict[str, Any]:
        """MAUVE against the references, judge perplexity, Div and length; None for what these texts do not allow."""
        found = self.read(texts)
        return {
            "texts": len(texts),
            "mauve": _or_none(lambda: mauve(found.features, self.reference_features, seed=self.plan.seed).to_dict()["value"]),
            "perplexity": _or_none(lambda: asdict(perplexity(self.plan.judge, found.costs).trimmed)),
            "diversity": asdict(diversity_interval(texts)),
            "words": sum(len(words(text)) for text in texts) / len(texts),
        }

    def perplexity(self, texts: Sequence[str]) -> dict[str, float] | None:
        """Trimmed judge perplexity as an interval's dictionary."""
        return _or_none(lambda: asdict(perplexity(self.plan.judge, self.read(texts).costs).trimmed))

    def real(self) -> dict[str, Any] | None:
        """The same measures of as many real texts: what a perfect model would get."""
        return self.once("real", {}, lambda: self.quality(self.held_out[1]))

    def said(self) -> list[str]:
        """The sentences that every page needs: size, judge, texts, what is missing."""
        plan = self.plan
        about = (
            f"{SIZES_SAID[plan.size]} {plan.count:,} texts a measurement against as many of {plan.test.name}; judge "
            f"{plan.judge}; seed {plan.seed}; MAUVE is the mean of 5 draws; intervals are of 95 %."
        )
        return [about] + ([f"Not measured for want of time: {', '.join(self.missing)}."] if self.missing else [])


def _or_none(work: Callable[[], dict[str, float]]) -> dict[str, float] | None:
    """None where the texts are too few, or too empty, for a measure: one step of sampling can give such texts."""
    try:
        return work()
    except DataError:
        return None


def open_model(name: str | Path, plan: Plan) -> tuple[TextDiffusion, list[Any]]:
    """A model, and what tells it from every other one: the checksums of its weights and its settings."""
    index = read_index(find_model(name))
    return TextDiffusion.load(name, plan.device), [index["sha256"], index["metadata"]["config"]]


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long ``work`` took, and what it gave."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def command(script: str, plan: Plan, *options: str) -> str:
    """The command line without folders, for the page: files and models by name."""
    shared = ["--test", plan.test.name, "--size", plan.size, "--texts", str(plan.count)]
    return shlex.join(["python", f"runs/{script}.py", *options, *shared, "--judge", plan.judge, "--seed", str(plan.seed)])


def run(script: str, work: Callable[[], Path]) -> None:
    """Do it, say where the page is; one line for an error of ours."""
    try:
        print(work())
    except (TextcosmError, OSError) as error:
        sys.exit(f"{script}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{script}: stopped; the same command goes on")


def tell(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)
