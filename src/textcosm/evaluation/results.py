"""Measured values with their intervals: what every measurement returns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textcosm.errors import DataError

CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.96  # of 95 % confidence, for the jackknife


class Result:
    """A frozen dataclass of measured values; ``to_dict`` is what goes into JSON and the model card."""

    def to_dict(self) -> dict[str, Any]:
        """The result as nested plain dictionaries, lists and numbers."""
        return asdict(self)  # type: ignore[call-overload]  # every child is a dataclass


@dataclass(frozen=True)
class Interval(Result):
    """A value and its 95 % interval over the choice of texts (not over training runs or seeds)."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(statistic: Callable[[np.ndarray], float], size: int, resamples: int = 1000, seed: int = 0) -> Interval:
    """Percentile interval of ``statistic(indices)`` under resampling ``size`` texts with replacement.

    For means and ratios of sums. Not for diversity: a text drawn twice is a duplicate; see :func:`jackknife`.
    """
    if size < 1:
        raise DataError("cannot measure 0 texts: give at least 1")
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(0, size, size)) for _ in range(resamples)]
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(statistic(np.arange(size))), float(low), float(high))


def bootstrap_ratio(numerators: Sequence[float], denominators: Sequence[float], seed: int = 0) -> Interval:
    """Interval of ``sum(numerators) / sum(denominators)``, resampling the texts that they belong to."""
    top, bottom = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    return bootstrap(lambda chosen: float(top[chosen].sum() / max(bottom[chosen].sum(), 1e-12)), len(top), seed=seed)


def bootstrap_mean(values: Iterable[float], seed: int = 0) -> Interval:
    """Interval of the mean of one value a text."""
    found = [float(value) for value in values]
    return bootstrap_ratio(found, [1.0] * len(found), seed)


def jackknife(statistic: Callable[[list[int]], float], size: int, groups: int = 20) -> Interval:
    """Normal interval of ``statistic(indices)`` from leaving out one of ``groups`` interleaved groups at a time.

    For statistics of the pool as a whole (diversity, corpus BLEU), which resampling with replacement would distort.
    """
    if size < 1:
        raise DataError("cannot measure 0 texts: give at least 1")
    everything = list(range(size))
    value = statistic(everything)
    groups = min(groups, size)
    if groups == 1:
        return Interval(value, value, value)
    left_out = [statistic([i for i in everything if i % groups != group]) for group in range(groups)]
    error = float(np.sqrt((groups - 1) * np.var(left_out)))  # delete-a-group jackknife
    return Interval(value, value - NORMAL_QUANTILE * error, value + NORMAL_QUANTILE * error)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested JSON as pairs of a dotted name and a value."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
