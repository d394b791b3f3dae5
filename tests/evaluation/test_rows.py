"""Rows keep blank texts, sources and targets, and are drawn by seed."""

import gzip
import json

import pytest

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.rows import Row, Rows, answered_by, read_rows
from textcosm.tasks import DataConfig


def written(path, records):
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def test_plain_texts_of_any_file(tmp_path):
    (tmp_path / "a.txt").write_text("One.\n\nTwo.\n")
    assert [row.text for row in read_rows(tmp_path / "a.txt").rows] == ["One.", "Two."]
    path = written(tmp_path / "a.jsonl", [{"body": "One."}, {"body": ""}, {"body": None}])
    assert [row.text for row in read_rows(path, "body").rows] == ["One.", "", ""]
    assert [row.text for row in read_rows(path).written.rows] == ["One."]


def test_the_checksum_is_of_the_rows_and_not_of_the_file(tmp_path):
    (tmp_path / "a.txt").write_text("One.\nTwo.\n")
    with gzip.open(tmp_path / "b.txt.gz", "wt") as file:
        file.write("One.\nTwo.\n")
    (tmp_path / "c.txt").write_text("Two.\nOne.\n")
    a, b, c = (read_rows(tmp_path / name).sha256 for name in ("a.txt", "b.txt.gz", "c.txt"))
    assert a == b != c


def test_answers_to_sources(tmp_path):
    path = written(tmp_path / "a.jsonl", [{"source": "s", "targets": ["t", "u"]}, {"source": "r", "target": "v"}])
    found = read_rows(path)
    assert found.rows == (Row("t", "s", ("t", "u")), Row("v", "r", ("v",)))
    assert found.has_targets
    assert not read_rows(written(tmp_path / "b.jsonl", [{"source": "s", "target": "t"}]), "target").has_targets


def test_a_source_without_targets_is_kept_but_asks_nothing(tmp_path):
    found = read_rows(written(tmp_path / "a.jsonl", [{"source": "a site", "text": "One."}, {"source": 3, "text": "Two."}]))
    assert found.rows == (Row("One.", "a site"), Row("Two.")) and not found.has_targets and not found.has_sources


@pytest.mark.parametrize("record", [{"source": 1, "target": "t"}, {"source": "s", "targets": []}, {"source": "s"}])
def test_a_row_that_is_no_pair(tmp_path, record):
    path = written(tmp_path / "a.jsonl", [{"source": "s", "target": "t"}, record])
    with pytest.raises(DataError, match="a.jsonl, record 2 is no pair"):
        read_rows(path)


def test_pairs_of_a_task_or_of_two_fields(tmp_path):
    path = written(tmp_path / "qg.jsonl", [{"context": "It rained.", "answer": "rain", "question": "What fell?"}])
    assert read_rows(path, pairs=DataConfig(task="question-generation")).rows == (
        Row("What fell?", "rain | It rained.", ("What fell?",)),
    )
    config = DataConfig(source_field="context", target_field="answer")
    assert read_rows(path, pairs=config).rows == (Row("rain", "It rained.", ("rain",)),)
    assert read_rows(path, "question", DataConfig("question")).rows == (Row("What fell?"),)


def test_sources_are_drawn_once_each_and_only_where_they_are_answered(tmp_path):
    records = [{"source": f"s{i % 5}", "targets": [f"t{i}"]} for i in range(9)]
    blank = [{"source": " ", "targets": ["t"]}, {"source": "s9", "targets": [""]}]
    found = read_rows(written(tmp_path / "a.jsonl", [*records, *blank]))
    assert found.draw_sources(5, 0) == ["s0", "s1", "s2", "s3", "s4"]
    assert found.draw_sources(3, 1) == found.draw_sources(3, 1) == sorted(set(found.draw_sources(3, 1)))
    assert {tuple(found.draw_sources(2, seed)) for seed in range(20)} != {tuple(found.draw_sources(2, 0))}
    with pytest.raises(DataError, match="a.jsonl holds 5 different sources, fewer than n = 6: lower -n"):
        found.draw_sources(6, 0)
    assert sum(row.is_blank for row in found.rows) == 2
    assert answered_by(["s1", "s9"], found, "mine") == [Row("t1", "s1", ("t1", "t6")), Row("", "s9", ("",))]


def test_all_answers():
    rows = Rows("mine", (Row("t", "s", ("t", "u")), Row("v")))
    assert [row.text for row in rows.all_answers.rows] == ["t", "u", "v"]


def test_draws_are_by_seed_in_order_and_never_more_than_there_are():
    rows = Rows("mine", tuple(Row(str(i)) for i in range(10)))
    drawn = [int(row.text) for row in rows.draw(4, 3)]
    assert drawn == sorted(set(drawn)) and rows.draw(4, 3) == rows.draw(4, 3) != rows.draw(4, 4)
    assert rows.draw(10, 0) == list(rows.rows)
    with pytest.raises(DataError, match="mine holds 10 texts, fewer than n = 11"):
        rows.draw(11, 0)
    with pytest.raises(ConfigError, match="n is 0"):
        rows.draw(0, 0)
