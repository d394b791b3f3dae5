"""MAUVE (arXiv 2102.01454): how close the distribution of generated texts is to that of real ones, with an interval."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.results import CONFIDENCE, Interval, Result

FEWEST = 20
"""Texts on a side below which there is nothing to compare: two buckets of ten."""
SOUND = 500
"""Texts on a side below which the value is noted as rough: it depends on the number of texts, and much so when few."""
LIBRARY_SEED = 25  # mauve-text's default: one draw of all texts at seed 0 is the library's own value


@dataclass(frozen=True)
class Mauve(Result):
    """MAUVE from 0 to 1 (alike); comparable at the same judge, ``size`` and references only."""

    value: Interval
    """Mean over the draws and its t-interval (which may reach past 1): over the clustering, and over the choice of texts
    on a side that has more than ``size``."""
    draws: tuple[float, ...]
    size: int
    """Texts of each side in a draw."""
    buckets: int
    """Clusters of a draw's texts: the library's own number, size / 10."""
    excluded: int
    """Generated texts without features (without tokens), left out."""
    excluded_references: int
    """References without features, left out."""
    note: str
    """What to keep in mind when reading the value; empty where there is nothing."""


def mauve(
    generated: np.ndarray, references: np.ndarray, *, draws: int = 5, size: int | None = None, seed: int = 0
) -> Mauve:
    """MAUVE of two sets of features, each (texts, width), as ``Judge.read`` gives them.

    A draw takes ``size`` texts (as many as the smaller side has, at most and by default) of either side at random, and
    clusters them with a seed of its own; everything else is ``mauve.compute_mauve``'s default. Rows of NaN are left out
    and counted. Raises DataError for fewer than 20 texts on a side or for features of different width, ConfigError for
    settings out of range or without mauve-text.
    """
    if draws < 1 or (size is not None and size < FEWEST):
        raise ConfigError(f"MAUVE cannot make {draws} draws of {size} texts: give at least 1 draw of {FEWEST} texts")
    ours, theirs = _whole(generated, "generated texts"), _whole(references, "references")
    if ours.shape[1] != theirs.shape[1]:
        raise DataError(
            f"features {ours.shape[1]} and {theirs.shape[1]} wide cannot be compared: read both sides with the same judge"
        )
    taken = min(len(ours), len(theirs), size or len(ours))
    found = [_draw(ours, theirs, taken, seed, number) for number in range(draws)]
    return Mauve(
        value=t_interval([value for value, _ in found]),
        draws=tuple(value for value, _ in found),
        size=taken,
        buckets=found[0][1],
        excluded=len(generated) - len(ours),
        excluded_references=len(references) - len(theirs),
        note=f"rough: from {taken} texts on a side, where {SOUND} or more are wanted" if taken < SOUND else "",
    )


def t_interval(values: list[float]) -> Interval:
    """The mean of independent draws with Student's interval; a single draw is an interval of one point."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return Interval(mean, mean, mean)
    from scipy.stats import t

    quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    half = quantile * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)


def _whole(features: np.ndarray, what: str) -> np.ndarray:
    if features.ndim != 2:
        raise DataError(f"features of {what} have {features.ndim} axes: give (texts, width)")
    whole = features[~np.isnan(features).any(axis=1)]
    if len(whole) < FEWEST:
        raise DataError(f"MAUVE needs at least {FEWEST} {what} that are not empty and got {len(whole)}: give more")
    return whole


def _draw(ours: np.ndarray, theirs: np.ndarray, size: int, seed: int, number: int) -> tuple[float, int]:
    """One value, and how many buckets it was made from."""
    rng = np.random.default_rng([seed, number])
    ours, theirs = (side[np.sort(rng.choice(len(side), size, replace=False))] for side in (ours, theirs))
    out = _compute(ours, theirs, seed=(LIBRARY_SEED + 1000 * seed + number) % 2**30)
    return float(out.mauve), int(out.num_buckets)


def _compute(ours: np.ndarray, theirs: np.ndarray, seed: int) -> Any:
    try:
        import faiss
        from mauve import compute_mauve
    except ImportError as error:
        missing = error.name or "mauve-text"
        raise ConfigError(f"MAUVE needs {missing}, which is not installed: pip install 'textcosm[eval]'") from error
    with _silent(faiss):
        return compute_mauve(p_features=ours, q_features=theirs, seed=seed)


@contextmanager
def _silent(faiss: Any) -> Iterator[None]:
    """faiss warns, from C++, of fewer than 39 points to a bucket, and MAUVE has 20; the limit changes nothing else."""
    kmeans = faiss.Kmeans
    faiss.Kmeans = functools.partial(kmeans, min_points_per_centroid=1)
    try:
        yield
    finally:
        faiss.Kmeans = kmeans
