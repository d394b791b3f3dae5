"""A report: what was measured on some texts, beside the same of real ones, with all that is needed to measure it again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textcosm.checkpoint import whole_file
from textcosm.errors import DataError
from textcosm.evaluation.results import Interval, Result

FORMAT = 1
JSON_FILE, PAGE_FILE, TEXTS_FILE = "report.json", "report.html", "texts.jsonl"


@dataclass(frozen=True)
class Label:
    """How a metric is called and shown; ``sentence`` says what it is and which way is good."""

    title: str
    digits: int
    sentence: str


LABELS = {
    "mauve": Label("MAUVE", 3, "likeness of the two sets of texts in the judge's features, 1 is alike: higher is better"),
    "perplexity": Label("perplexity", 1, "mean of the texts' own perplexities, 5 % trimmed at both ends: near the references"),
    "perplexity_corpus": Label("perplexity, corpus", 1, "over all tokens at once: near the references"),
    "diversity": Label("Div", 3, "unique / total n-grams of the pool, n = 2, 3, 4, multiplied: near the references or higher"),
    "self_bleu": Label("self-BLEU", 3, "BLEU of a text against the others: lower is more diverse"),
    "memorised": Label("Mem", 3, "share of 4-grams that occur in the training texts: near the references"),
    "copies": Label("copies", 4, "share of texts that are a training text word for word: 0"),
    "words": Label("words", 1, "words and punctuation marks in a text: near the references"),
    "sentences": Label("sentences", 2, "sentence ends in a text: near the references"),
    "token_accuracy": Label("tokens reconstructed", 3, "mean share of a reference's tokens that come back from the latent space: 1"),
    "reconstruction_bleu": Label("BLEU, reconstructed", 3, "of the references after the latent space, against themselves: 1"),
    "rouge1": Label("ROUGE-1", 3, "words shared with the best accepted answer, F1: higher is better"),
    "rouge2": Label("ROUGE-2", 3, "pairs of words shared with the best accepted answer, F1: higher is better"),
    "rougeL": Label("ROUGE-L", 3, "longest common subsequence with the best accepted answer, F1: higher is better"),
    "bleu": Label("BLEU", 3, "n-grams shared with the accepted answers: higher is better"),
    "bertscore": Label("BERTScore", 3, "likeness of meaning to the best accepted answer, F1: higher is better"),
    "toxicity": Label("toxicity", 3, "mean probability of being toxic: lower is better"),
    "style_accuracy": Label("style accuracy", 3, "share of texts that are not toxic: higher is better"),
    "similarity": Label("similarity", 3, "cosine of the embeddings of text and source: higher is better"),
    "fluency": Label("fluency", 3, "as its judge or classifier finds it, up to 1: higher is better"),
    "joint": Label("joint", 3, "mean product of style, similarity and fluency of a text: higher is better"),
}
"""Metric -> its label, in the order of tables."""


def label(metric: str) -> Label:
    return LABELS.get(metric, Label(metric, 3, ""))


@dataclass(frozen=True)
class Report(Result):
    """What :func:`textcosm.evaluation.evaluate.evaluate` finds; equal commands give equal reports but for ``timings``."""

    name: str
    manifest: dict[str, Any]
    """What was measured, on what, with what: checksums, settings, versions, the command."""
    metrics: dict[str, Interval]
    reference: dict[str, Interval]
    """The same metrics of the references, where they mean something."""
    per_text: dict[str, list[float | None]]
    """One number a text, in order: words, sentences; perplexity and tokens as the judge reads them, None where it cannot."""
    reference_per_text: dict[str, list[float | None]]
    mauve_draws: list[float] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)
    """Why -> how many texts were left out."""
    notes: list[str] = field(default_factory=list)
    """What to keep in mind when reading the numbers."""
    samples: list[str] = field(default_factory=list)
    sample_sources: list[str] = field(default_factory=list)
    """What the samples answer, for conditional tasks."""
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""

    @property
    def ratios(self) -> dict[str, float]:
        """Value over the references' value, where that is not 0."""
        both = [name for name in self.metrics if name in self.reference and self.reference[name].value]
        return {name: self.metrics[name].value / self.reference[name].value for name in both}

    def to_dict(self) -> dict[str, Any]:
        found = {"format": FORMAT, **super().to_dict(), "ratios": self.ratios}
        return found | {"timings": found.pop("timings")}  # last: the one part that differs from run to run

    def save(self, folder: str | Path) -> Path:
        """Write ``report.json`` into the folder; returns its path. The page beside it is page.py's."""
        folder = Path(folder).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / JSON_FILE) as file:
            json.dump(self.to_dict(), file, indent=1, ensure_ascii=False, allow_nan=False)
        return folder / JSON_FILE

    def table(self) -> list[tuple[str, ...]]:
        """Rows of metric, value, the references' value and the ratio of both, as text; the first row is the head."""
        rows = [("metric", self.name, "references", "ratio")]
        for name, value in self.metrics.items():
            reference = self.reference.get(name)
            ratio = f"{self.ratios[name]:.2f}" if name in self.ratios else ""
            rows.append((label(name).title, shown(name, value), shown(name, reference), ratio))
        return rows


def shown(metric: str, value: Interval | None) -> str:
    """``0.812 [0.801, 0.823]`` with the metric's digits; empty for None."""
    if value is None:
        return ""
    digits = label(metric).digits
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def ordered(metrics: Mapping[str, Interval]) -> dict[str, Interval]:
    """In the order of LABELS, unknown ones last."""
    known = list(LABELS)
    return dict(sorted(metrics.items(), key=lambda item: known.index(item[0]) if item[0] in known else len(known)))


def read_report(path: str | Path) -> Report:
    """The report in a folder, or in a report.json. Raises DataError where there is none of this format."""
    path = Path(path).expanduser()
    file = path / JSON_FILE if path.is_dir() else path
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{file} does not exist; give the folder that textcosm evaluate wrote") from None
    except ValueError:
        raise DataError(f"{file} is not JSON; give the report.json that textcosm evaluate wrote") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        version = found.get("format") if isinstance(found, dict) else None
        raise DataError(f"{file} is no report of format {FORMAT} but {version!r}; evaluate again with this textcosm")
    try:
        fields: dict[str, Any] = {name: found[name] for name in Report.__dataclass_fields__}
        fields |= {side: _intervals(found[side]) for side in ("metrics", "reference")}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is no whole report ({error}); evaluate again") from error
    return Report(**fields)


def _intervals(values: Mapping[str, Mapping[str, float]]) -> dict[str, Interval]:
    return {name: Interval(**value) for name, value in values.items()}
