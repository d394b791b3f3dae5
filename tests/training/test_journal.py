"""The journal: a line a record, continued where the state was saved."""

import importlib.util
import json

import pytest

from textcosm.errors import TrainingError
from textcosm.training.journal import Journal, read_journal


def test_records_are_json_lines_with_seven_digits(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write({"step": 1, "loss": 1 / 3})
    journal.write({"step": 2, "loss": 2.0, "note": "é"})
    lines = (tmp_path / "journal.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "loss": 0.3333333},
        {"step": 2, "loss": 2.0, "note": "é"},
    ]


def test_resuming_drops_what_was_written_after_the_saved_state(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st', encoding="utf-8")
    Journal(path, step=2).write({"step": 3, "again": True})
    assert read_journal(path) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


def test_no_journal_is_an_empty_one(tmp_path):
    assert read_journal(tmp_path / "journal.jsonl") == []


def test_tensorboard_is_asked_for_by_name_when_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="pip install tensorboard"):
        Journal(tmp_path / "journal.jsonl", tensorboard=True)


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="an extra")
def test_tensorboard_gets_the_numbers(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl", tensorboard=True)
    journal.write({"step": 1, "loss": 0.5})
    journal.close()
    assert list((tmp_path / "tensorboard").glob("events*"))
