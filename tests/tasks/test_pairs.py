"""What pairs.py promises: every pair of any file, a source on one side only, and one clear line for a bad record."""

import csv
import json

import pytest

from textcosm.errors import ConfigError, DataError
from textcosm.tasks import DataConfig, Example, Pair, PairTask, open_task, pairs_of, read_pairs, read_sources
from textcosm.testing import check_task

PLAIN = DataConfig()
RECORDS = [
    {"source": "too much hate , moron .", "targets": ["Too much hate .", "There is much hate ."]},
    {"source": "one", "targets": ["two"]},
]
PAIRS = [Pair(record["source"], tuple(record["targets"])) for record in RECORDS]


def written(folder, *records, name="pairs.jsonl"):
    path = folder / name
    path.write_text("\n".join(map(json.dumps, records)))
    return path


def table(folder, *rows):
    path = folder / "pairs.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return path


def refused(path, config=PLAIN):
    with pytest.raises(DataError) as caught:
        list(read_pairs(path, config))
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_sources_with_one_or_several_answers(tmp_path):
    assert list(read_pairs(written(tmp_path, *RECORDS), PLAIN)) == PAIRS
    assert list(read_pairs(written(tmp_path, {"source": "a", "target": "b"}), PLAIN)) == [Pair("a", ("b",))]


def test_pairs_of_csv(tmp_path):
    path = table(tmp_path, ["q", "a"], ["who?", "Bo,\nhere"], [], ["where?", ""])
    fields = DataConfig(source_field="q", target_field="a")
    assert list(read_pairs(path, fields)) == [Pair("who?", ("Bo,\nhere",)), Pair("where?", ("",))]
    assert "line 2 has 1 of 2 columns" in refused(table(tmp_path, ["q", "a"], ["who?"]), fields)


def test_pairs_of_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the data extra is not installed")
    from pyarrow import parquet

    path = tmp_path / "pairs.parquet"
    parquet.write_table(pyarrow.Table.from_pylist(RECORDS), path)
    assert list(read_pairs(path, PLAIN)) == PAIRS


def test_pairs_of_a_hub(hub):
    hub.rows = RECORDS
    assert list(read_pairs("hf:owner/pairs", PLAIN)) == PAIRS
    hub.rows = [*RECORDS, {"source": "x"}]
    with pytest.raises(DataError, match="hf:owner/pairs, row 3: no field targets or target"):
        list(read_pairs("hf:owner/pairs", PLAIN))


def test_fields_of_the_tasks(tmp_path):
    question = {"context": "Bo ran home.", "answer": "home", "question": "Where did Bo run?"}
    found = read_pairs(written(tmp_path, question), DataConfig(task="question-generation"))
    assert list(found) == [Pair("home | Bo ran home.", ("Where did Bo run?",))]
    summary = {"document": "Long.", "summary": "Short.", "id": 3}
    assert list(read_pairs(written(tmp_path, summary), DataConfig(task="summarisation"))) == [Pair("Long.", ("Short.",))]
    polite = {"en_toxic_comment": "a", "en_neutral_comment": "b"}
    assert list(read_pairs(written(tmp_path, polite), DataConfig(task="detoxification"))) == [Pair("a", ("b",))]


def test_named_fields_come_before_those_of_the_task(tmp_path):
    path = written(tmp_path, {"source": "a", "target": "b", "body": "c", "head": "d"})
    fields = DataConfig(task="summarisation", source_field="body", target_field="head")
    assert list(read_pairs(path, fields)) == [Pair("c", ("d",))]


def test_sources_need_no_answers(tmp_path):
    path = written(tmp_path, {"context": "Bo ran.", "answer": "Bo"})
    assert list(read_sources(path, DataConfig(task="question-generation"))) == ["Bo | Bo ran."]
    (tmp_path / "sources.txt").write_text("one\n\ntwo\n")
    assert list(read_sources(tmp_path / "sources.txt", PLAIN)) == ["one", "two"]


def test_blank_answers_beside_others_are_left_out(tmp_path):
    path = written(tmp_path, {"source": "a", "targets": [" ", "b", None]}, {"source": None, "targets": []})
    assert list(read_pairs(path, PLAIN)) == [Pair("a", ("b",)), Pair("", ("",))]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"target": "b"}, "line 2: no field source; it has: target. Name the source with --source-field"),
        ({"source": "a"}, "line 2: no field targets or target; it has: source. Name the target with --target-field"),
        ({"source": 3, "target": "b"}, "line 2: its field 'source' holds int, not text"),
        ({"source": "a", "target": {}}, "line 2: its field 'target' holds dict, not text"),
        ({"source": "a", "targets": ["b", 3]}, "line 2: its field 'targets' holds int, not text"),
    ],
)
def test_a_record_that_is_no_pair(record, message, tmp_path):
    assert message in refused(written(tmp_path, {"source": "a", "target": "b"}, record))


def test_a_source_of_several_fields_names_them_all(tmp_path):
    message = refused(written(tmp_path, {"context": "c", "question": "q"}), DataConfig(task="question-generation"))
    assert "no field answer + context; it has: context, question" in message


def test_plain_text_holds_no_pairs(tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    assert "holds no records; give .jsonl, .csv, .parquet" in refused(tmp_path / "a.txt")
    assert "holds no pairs" in refused(written(tmp_path))
    assert "does not exist" in refused(tmp_path / "b.jsonl")


def test_pairs_of_two_lists():
    assert pairs_of(["a", "b"], ["c", ["d", "", "e"]]) == [Pair("a", ("c",)), Pair("b", ("d", "e"))]
    with pytest.raises(DataError, match="2 sources and 1 targets; give as many of each"):
        pairs_of(["a", "b"], ["c"])


# The task


def test_every_answer_is_an_example(tmp_path):
    fields = DataConfig(task="detoxification", valid_fraction=0)
    task = open_task(str(written(tmp_path, *RECORDS)), fields)
    assert isinstance(task, PairTask) and task.name == "pairs.jsonl"
    assert task.metrics == ("bleu", "style_accuracy", "similarity", "fluency", "joint")
    (first, second), source = RECORDS[0]["targets"], RECORDS[0]["source"]
    assert list(task.examples("train")) == [Example(first, source), Example(second, source), Example("two", "one")]


def test_no_source_is_on_both_sides(tmp_path):
    records = [{"source": f"s{i % 100}", "target": f"t{i}"} for i in range(1000)]
    task = PairTask(written(tmp_path, *records), DataConfig(task="summarisation", valid_fraction=0.2))
    check_task(task)
    train, valid = (list(task.examples(split)) for split in ("train", "valid"))
    assert len(train) + len(valid) == 1000 and 50 < len(valid) < 400
    assert not {example.source for example in train} & {example.source for example in valid}


def test_pairs_with_a_blank_side_are_left_out_and_counted(tmp_path):
    blank = [{"source": " ", "target": "b"}, {"source": "a", "target": None}]
    task = PairTask(written(tmp_path, *RECORDS, *blank), DataConfig(valid_fraction=0))
    assert len(list(task.examples("train"))) == 3 and task.left_out == 2
    assert not list(task.examples("valid")) and task.left_out == 2


def test_another_split_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no split 'test'"):
        PairTask(written(tmp_path, *RECORDS), PLAIN).examples("test")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "poems"}, "there is no task 'poems'; choose one of stories, wikipedia, question-generation"),
        ({"source_field": "a"}, "--source-field is given alone; give --target-field too"),
        ({"target_field": "a"}, "--target-field is given alone; give --source-field too"),
        ({"task": "stories", "source_field": "a", "target_field": "b"}, "task 'stories' has no sources"),
        ({"task": "detoxification", "text_field": "a"}, "'detoxification' has pairs, not texts; leave --text-field 'a'"),
        ({"text_field": "t", "source_field": "a", "target_field": "b"}, "--text-field 't' and --source-field 'a'"),
    ],
)
def test_settings_that_disagree(settings, message):
    with pytest.raises(ConfigError) as caught:
        DataConfig(**settings)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_which_settings_mean_pairs():
    assert DataConfig(task="summarisation").is_paired and DataConfig(source_field="a", target_field="b").is_paired
    assert not DataConfig().is_paired and not DataConfig(task="stories", text_field="body").is_paired


def test_all_questions_about_a_context_are_on_one_side(tmp_path):
    rows = [{"context": f"Bo ran to town {k}.", "answer": a, "question": f"{a}?"} for k in range(40) for a in ("Bo", "ran", "town")]
    task = PairTask(written(tmp_path, *rows), DataConfig(task="question-generation", valid_fraction=0.3))
    contexts = {split: [e.source.split(" | ")[1] for e in task.examples(split)] for split in ("train", "valid")}
    assert not set(contexts["train"]) & set(contexts["valid"]) and all(len(found) % 3 == 0 for found in contexts.values())
    assert len(contexts["train"]) + len(contexts["valid"]) == 120 and min(map(len, contexts.values())) > 0
