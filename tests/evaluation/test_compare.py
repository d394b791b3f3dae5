"""Comparisons of reports whose numbers are known."""

import math
from dataclasses import replace

import numpy as np
import pytest

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.compare import compare, difference_of_intervals, difference_of_samples
from textcosm.evaluation.report import Report
from textcosm.evaluation.results import Interval

MANIFEST = {
    "n": 50, "data": {"name": "test.txt", "sha256": "ab" * 32}, "train": None,
    "judge": {"name": "gpt2", "fingerprint": "f00d"}, "model": {"sampler": {"steps": 50}},
}  # fmt: skip


def report(name: str, mean: float, mauve: Interval | None = None, draws: int = 3, **manifest) -> Report:
    """Words spread evenly by 10 about ``mean``."""
    words = [float(value) for value in mean + np.linspace(-10, 10, 50)]
    metrics = {"words": Interval(mean, mean - 2, mean + 2), "mauve": mauve or Interval(0.8, 0.7, 0.9)}
    return Report(name, MANIFEST | manifest, metrics, {}, {"words": words}, {}, mauve_draws=[0.8] * draws)


def test_a_difference_is_with_the_first_report_and_its_interval_decides():
    same, longer = report("a", 50), report("b", 50.5)
    found = compare([same, longer, report("c", 70)])
    first, near, far = found.rows["words"]
    assert first.difference is None and not first.significant
    assert near.difference is not None and near.difference.value == pytest.approx(0.5) and not near.significant
    assert far.difference is not None and far.difference.value == pytest.approx(20) and far.significant
    # The standard error of the difference of two means of 50 values; the bootstrap's own is sqrt(1 - 1/50) of it.
    error = math.sqrt(2 * np.var(same.per_text["words"]) / 50)
    assert far.difference.high - far.difference.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    assert list(found.rows) == ["mauve", "words"]


def test_without_values_of_each_text_the_two_intervals_are_combined():
    found = difference_of_intervals(Interval(1.0, 0.7, 1.3), Interval(2.0, 1.6, 2.4))
    assert (found.value, found.low, found.high) == pytest.approx((1.0, 0.5, 1.5))  # 3-4-5
    lopsided = difference_of_intervals(Interval(0.0, 0.0, 3.0), Interval(0.0, -4.0, 0.0))
    assert (lopsided.low, lopsided.high) == pytest.approx((-5.0, 0.0))


def test_resampling_is_the_same_every_time():
    a, b = np.arange(30.0), np.arange(30.0) ** 1.1
    assert difference_of_samples(a, b, np.mean) == difference_of_samples(a, b, np.mean)


def test_a_single_draw_of_mauve_decides_nothing():
    one = report("a", 50, Interval(0.2, 0.2, 0.2), draws=1)
    (_, cell) = compare([one, report("b", 50, Interval(0.9, 0.9, 0.9), draws=1)]).rows["mauve"]
    assert not cell.significant
    (_, cell) = compare([report("a", 50, Interval(0.2, 0.1, 0.3)), report("b", 50)]).rows["mauve"]
    assert cell.significant


def test_the_table_has_a_row_a_metric_and_marks_what_is_significant():
    head, mauve, words = compare([report("a", 50), report("b", 70)]).table()
    assert head == ("metric", "a", "b")
    assert mauve == ("MAUVE", "0.800 [0.700, 0.900]", "0.800 [0.700, 0.900]\n+0.000 [-0.141, +0.141]")
    assert words[1] == "50.0 [48.0, 52.0]" and words[2].startswith("70.0 [68.0, 72.0]\n+20.0 [+17.") and words[2][-1] == "*"


def test_a_metric_that_one_report_lacks_has_an_empty_cell():
    bare = replace(report("b", 50), metrics={"words": Interval(50.0, 48.0, 52.0)})
    assert compare([bare, report("a", 50)]).table()[1] == ("MAUVE", "", "0.800 [0.700, 0.900]")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"judge": {"name": "gpt2", "fingerprint": "beef"}}, r"the judge differs \(a: gpt2 f00d, b: gpt2 beef\)"),
        ({"judge": None}, r"the judge differs \(a: gpt2 f00d, b: none\)"),
        ({"data": {"name": "valid.txt", "sha256": "cd" * 32}}, "the data differs .*a: test.txt abababababab, b: valid.txt cd"),
        ({"n": 1000}, r"n differs \(a: 50, b: 1000\)"),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(manifest, message):
    reports = [report("a", 50), report("b", 70, **manifest)]
    with pytest.raises(DataError, match=message + ".*evaluate them alike, or give --anyway"):
        compare(reports)
    assert len(compare(reports, anyway=True).mismatches) == 1


def test_settings_that_differ_are_listed_and_equal_names_are_told_apart():
    found = compare([report("a", 50), report("a", 50, model={"sampler": {"steps": 10}})])
    assert found.names == ("a (1)", "a (2)")
    assert found.settings == {"model.sampler.steps": ("50", "10")}


def test_one_report_is_no_comparison():
    with pytest.raises(ConfigError, match="1 report was given; a comparison takes at least 2"):
        compare([report("a", 50)])
