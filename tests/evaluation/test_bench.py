"""Timings in rounds, and what a fresh process tells."""

import pytest

from textcosm.errors import ConfigError
from textcosm.evaluation.bench import Fresh, Written, in_fresh_process, in_rounds, peak_resident, seconds_a_text


def work_well(text):
    yield
    bytearray(50_000_000)


def work_badly(text):
    raise ValueError(f"{text} is too heavy")
    yield


def test_rounds_go_over_all_writers_before_any_has_its_next_turn():
    calls, told = [], []

    def writer(name):
        return lambda n, seed: calls.append((name, n, seed)) or ["text"] * n

    taken = in_rounds(
        {"a": writer("a"), "b": writer("b")}, (1, 4), 2, seed=7, tell=lambda *progress: told.append(progress)
    )
    assert calls[:2] == [("a", 1, 7), ("b", 1, 7)]
    assert calls[2:6] == [("a", 1, 8), ("b", 1, 8), ("a", 4, 8), ("b", 4, 8)]
    assert [call[2] for call in calls[6:]] == [9] * 4
    assert [len(one.texts) for one in taken["b"][4]] == [4, 4] and taken["b"][4][0].seconds >= 0
    assert told[-1] == ("timing", 8, 8)


def test_the_median_is_a_texts():
    assert seconds_a_text([Written(8.0, ["a", "b"]), Written(2.0, ["a", "b"]), Written(4.0, ["a", "b"])]) == 2.0


def test_what_cannot_be_timed_is_refused():
    with pytest.raises(ConfigError, match="rounds is 0"):
        in_rounds({}, (1,), 0)
    with pytest.raises(ConfigError, match=r"the batches are \[0\]"):
        in_rounds({}, (0,), 1)


def test_the_peak_is_the_gpus_where_there_is_one():
    assert Fresh(1.0, 500.0, None).peak == 500.0
    assert Fresh(1.0, 500.0, 30.0).peak == 30.0
    assert peak_resident() > 10


@pytest.mark.slow
def test_a_fresh_process_tells_what_it_took_or_why_not(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(__import__("pathlib").Path(__file__).parent))
    for work in (work_well, work_badly):
        monkeypatch.setattr(work, "__module__", "test_bench")
    fresh = in_fresh_process(work_well, "x")
    assert fresh.seconds > 0 and fresh.resident > 50
    with pytest.raises(ConfigError, match="x failed in a fresh process .*x is too heavy"):
        in_fresh_process(work_badly, "x")
