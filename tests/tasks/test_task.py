"""What the tasks room promises: any data opens as a task."""

import importlib.util

import pytest

from textcosm.errors import DataError
from textcosm.tasks import DataConfig, Example, FileTask, Task, open_task


def test_a_file_opens_as_a_task(tmp_path):
    path = tmp_path / "stories.txt"
    path.write_text("one\ntwo\nthree\n")
    task = open_task(str(path), DataConfig(valid_fraction=0))
    assert isinstance(task, FileTask)
    assert isinstance(task, Task)
    assert task.name == "stories.txt"
    assert list(task.examples("train")) == [Example("one"), Example("two"), Example("three")]


def test_the_field_of_the_config_is_read(tmp_path):
    path = tmp_path / "stories.jsonl"
    path.write_text('{"a": "one", "b": "two"}\n')
    task = open_task(str(path), DataConfig(text_field="b", valid_fraction=0))
    assert [example.text for example in task.examples("train")] == ["two"]


def test_the_home_folder_may_be_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "stories.txt").write_text("one\n")
    assert [example.text for example in open_task("~/stories.txt", DataConfig(None, 0)).examples("train")] == ["one"]


def test_a_hub_name_asks_for_the_hub(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="hf:owner/name needs the datasets package"):
        open_task("hf:owner/name", DataConfig())
