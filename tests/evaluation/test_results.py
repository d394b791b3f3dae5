"""Intervals cover what they should, and come back the same every time."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from textcosm.errors import DataError
from textcosm.evaluation.results import Interval, Result, bootstrap, bootstrap_ratio, jackknife


def test_bootstrap_of_a_mean_is_about_two_standard_errors_wide():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap(lambda chosen: float(values[chosen].mean()), len(values))
    assert found.value == pytest.approx(values.mean())
    half_width = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half_width, abs=0.05)
    assert found.high == pytest.approx(values.mean() + half_width, abs=0.05)
    assert found == bootstrap(lambda chosen: float(values[chosen].mean()), len(values))


def test_jackknife_agrees_with_the_bootstrap_on_a_mean():
    values = np.random.default_rng(1).normal(0, 1, 400)
    jack = jackknife(lambda chosen: float(values[chosen].mean()), len(values))
    boot = bootstrap(lambda chosen: float(values[chosen].mean()), len(values))
    assert jack.high - jack.low == pytest.approx(boot.high - boot.low, rel=0.5)


def test_ratio_weighs_texts_by_their_size():
    found = bootstrap_ratio([1, 9], [2, 98])
    assert found.value == pytest.approx(0.1)
    assert found.low <= found.value <= found.high


@pytest.mark.parametrize("measure", [bootstrap, jackknife])
def test_nothing_to_measure_is_a_clear_error(measure):
    with pytest.raises(DataError, match="0 texts"):
        measure(lambda chosen: 0.0, 0)


def test_one_text_has_an_interval_of_one_point():
    assert jackknife(lambda chosen: 0.5, 1) == Interval(0.5, 0.5, 0.5)


def test_results_become_plain_json():
    @dataclass(frozen=True)
    class Both(Result):
        name: str
        parts: tuple[Interval, ...]

    plain = Both("x", (Interval(1.0, 0.5, 2.0),)).to_dict()
    assert json.loads(json.dumps(plain)) == {"name": "x", "parts": [{"value": 1.0, "low": 0.5, "high": 2.0}]}
    assert str(Interval(1.0, 0.5, 2.0)) == "1.000 [0.500, 2.000]"
