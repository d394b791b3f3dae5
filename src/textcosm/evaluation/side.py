"""One side of an evaluation, generated or real: its texts, what a judge found in them, and all metrics that need no pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from textcosm.evaluation.judges import Judge, Readings, Surprise, perplexity
from textcosm.evaluation.metrics import (
    copies,
    diversity_interval,
    lengths,
    memorisation,
    self_bleu,
    sentence_count,
    words,
)
from textcosm.evaluation.results import Interval, bootstrap_mean

LARGEST = 1e300
"""A perplexity beyond this is stored as this: JSON knows no infinity."""


@dataclass(frozen=True)
class Side:
    """Texts that are not blank, and what was measured on them."""

    texts: list[str]
    readings: Readings | None
    metrics: dict[str, Interval]
    per_text: dict[str, list[float | None]]

    @property
    def unread(self) -> int:
        """Texts without a token for the judge."""
        return self.readings.costs.count(None) if self.readings else 0


def measure_side(
    texts: list[str],
    judge: Judge | None = None,
    training_texts: Sequence[str] | None = None,
    cache: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Side:
    """Read the texts with the judge, if there is one, and measure them; ``progress`` hears how many it has read."""
    readings = None if judge is None else judge.read(texts, progress=progress, cache=cache)
    metrics: dict[str, Interval] = {}
    per_text: dict[str, list[float | None]] = {}
    if judge is not None and readings is not None:
        found = perplexity(judge.name, readings.costs)
        metrics |= {"perplexity": found.trimmed, "perplexity_corpus": found.corpus}
        per_text["perplexity"] = [_rounded(cost) for cost in readings.costs]
    length = lengths(texts)
    metrics |= {"diversity": diversity_interval(texts), "self_bleu": self_bleu(texts)}
    metrics |= {"words": length.words, "sentences": length.sentences}
    per_text["words"] = [len(words(text)) for text in texts]
    per_text["sentences"] = [sentence_count(text) for text in texts]
    if training_texts is not None:
        metrics["memorised"] = memorisation(texts, training_texts)
        known = copies(texts, training_texts)
        metrics["copies"] = bootstrap_mean([1] * known + [0] * (len(texts) - known))
    return Side(texts, readings, metrics, per_text)


def _rounded(cost: Surprise | None) -> float | None:
    """Six digits: enough for any plot or bootstrap, at half the size of the file."""
    return None if cost is None else float(f"{min(cost.perplexity, LARGEST):.6g}")
