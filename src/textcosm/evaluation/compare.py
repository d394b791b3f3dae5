"""Reports side by side: what differs from the first of them, with an interval, and whether that is more than chance."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textcosm.config import differences
from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.judges import trimmed_mean
from textcosm.evaluation.report import Report, label, ordered, shown
from textcosm.evaluation.results import CONFIDENCE, Interval, Result, flat

RESAMPLES = 1000


@dataclass(frozen=True)
class Cell(Result):
    """A metric of one report; ``difference`` is its value minus the first report's, None in the first itself."""

    value: Interval | None
    difference: Interval | None

    @property
    def significant(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return self.difference is not None and not self.difference.low <= 0 <= self.difference.high


@dataclass(frozen=True)
class Comparison(Result):
    """What :func:`compare` finds."""

    names: tuple[str, ...]
    """One a report, no two equal."""
    rows: dict[str, tuple[Cell, ...]]
    """Metric -> a cell for each report."""
    settings: dict[str, tuple[str, ...]]
    """Dotted name -> its value in each report, where the manifests differ."""
    mismatches: tuple[str, ...]
    """Why the numbers should not be compared at all; empty where they may be."""

    @property
    def legend(self) -> str:
        """What the marks in the table mean."""
        said = f"Below a value: its difference from {self.names[0]} with the 95 % interval; * where that leaves out 0."
        if "mauve" in self.rows:
            said += " MAUVE's intervals are over its draws, not over the choice of texts: they are too short."
        return said

    def table(self) -> list[tuple[str, ...]]:
        """Rows of text, the head first; a cell has two lines where there is a difference."""
        rows = [("metric", *self.names)]
        return rows + [(label(name).title, *(_text(name, cell) for cell in cells)) for name, cells in self.rows.items()]


def compare(reports: Sequence[Report], anyway: bool = False) -> Comparison:
    """Set the first report against each of the others.

    The interval of a difference is a bootstrap over the stored values of each text where there are any (perplexity,
    words, sentences), and else made of the two intervals (:func:`difference_of_intervals`). Raises DataError where the
    judges, the data or the numbers of texts differ, unless ``anyway``; ConfigError for fewer than two reports.
    """
    if len(reports) < 2:
        raise ConfigError(f"{len(reports)} report was given; a comparison takes at least 2")
    names = _distinct([report.name for report in reports])
    found = mismatches(reports, names)
    if found and not anyway:
        raise DataError(f"these reports cannot be compared: {'; '.join(found)}: evaluate them alike, or give --anyway")
    metrics = ordered({name: value for report in reversed(reports) for name, value in report.metrics.items()})
    rows = {metric: tuple(_cell(metric, reports[0], report) for report in reports) for metric in metrics}
    return Comparison(names, rows, _settings(reports), found)


def mismatches(reports: Sequence[Report], names: Sequence[str]) -> tuple[str, ...]:
    """A line for each thing that has to be equal and is not: judge, data, training texts, number of texts."""
    found = []
    for what, key in (("the judge", "judge"), ("the data", "data"), ("the training texts", "train"), ("n", "n")):
        values = [_identity(report.manifest.get(key)) for report in reports]
        if len(set(values)) > 1:
            found.append(f"{what} differs ({', '.join(f'{n}: {v}' for n, v in zip(names, values, strict=True))})")
    return tuple(found)


def _identity(value: Any) -> str:
    """What tells two judges or two data sets apart, as text."""
    if not isinstance(value, dict):
        return "none" if value is None else str(value)
    return f"{value.get('name')} {str(value.get('fingerprint') or value.get('sha256'))[:12]}"


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Equal names get a number: models of equal folder names are still two models."""
    return tuple(
        f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name for i, name in enumerate(names)
    )


def _settings(reports: Sequence[Report]) -> dict[str, tuple[str, ...]]:
    tables = [{name: str(value) for name, value in flat(report.manifest)} for report in reports]
    names = dict.fromkeys(name for table in tables[1:] for name in differences(tables[0], table))
    return {name: tuple(table.get(name, "") for table in tables) for name in names}


# ---------------------------------------------------------------- differences


def _cell(metric: str, first: Report, report: Report) -> Cell:
    ours, theirs = report.metrics.get(metric), first.metrics.get(metric)
    if report is first or ours is None or theirs is None:
        return Cell(ours, None)
    per_text = _per_text(metric, first), _per_text(metric, report)
    if metric in STATISTICS and len(per_text[0]) and len(per_text[1]):
        return Cell(ours, difference_of_samples(*per_text, STATISTICS[metric]))
    # One draw has no interval, and a difference from it none either: everything is possible.
    pointless = metric == "mauve" and min(len(first.mauve_draws), len(report.mauve_draws)) < 2
    difference = difference_of_intervals(theirs, ours)
    return Cell(ours, Interval(difference.value, -math.inf, math.inf) if pointless else difference)


STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "perplexity": trimmed_mean,
    "words": lambda values: float(values.mean()),
    "sentences": lambda values: float(values.mean()),
}
"""Metric -> how it is made of the numbers that a report keeps for each text."""


def _per_text(metric: str, report: Report) -> np.ndarray:
    return np.array([value for value in report.per_text.get(metric, []) if value is not None], dtype=np.float64)


def difference_of_samples(
    first: np.ndarray, other: np.ndarray, statistic: Callable[[np.ndarray], float], seed: int = 0
) -> Interval:
    """``statistic(other) - statistic(first)``, with the percentile interval of resampling each side by itself."""
    rng = np.random.default_rng(seed)

    def drawn(values: np.ndarray) -> float:
        return statistic(values[rng.integers(0, len(values), len(values))])

    draws = [drawn(other) - drawn(first) for _ in range(RESAMPLES)]
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(statistic(other) - statistic(first), float(low), float(high))


def difference_of_intervals(first: Interval, other: Interval) -> Interval:
    """``other - first`` from their intervals alone, as independent; equal to the normal interval where both are normal.

    Each limit adds the squares of the two distances that move the difference that way (MOVER, Zou and Donner 2008), so
    a lopsided interval stays lopsided.
    """
    value = other.value - first.value
    return Interval(
        value,
        value - math.hypot(other.value - other.low, first.high - first.value),
        value + math.hypot(other.high - other.value, first.value - first.low),
    )


def _text(metric: str, cell: Cell) -> str:
    if cell.difference is None:
        return shown(metric, cell.value)
    digits, difference = label(metric).digits, cell.difference
    limits = "no interval"
    if math.isfinite(difference.low):
        limits = f"[{difference.low:+.{digits}f}, {difference.high:+.{digits}f}]"
    star = " *" if cell.significant else ""
    return f"{shown(metric, cell.value)}\n{difference.value:+.{digits}f} {limits}{star}"
