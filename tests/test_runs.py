"""The measuring scripts in runs/, from end to end on an untrained model, and again from where they stopped."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from textcosm.errors import DataError
from textcosm.evaluation.judges import Judge, Readings, Surprise
from textcosm.pipeline import TextDiffusion

RUNS = Path(__file__).parents[1] / "runs"
STORIES = ["The cat sat on the chair. It was happy.", "We lost the game. Nobody was sad.", "Anna ate a cake at home."]


def _script(name):
    spec = importlib.util.spec_from_file_location(f"runs_{name}", RUNS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class CountingJudge(Judge):
    """One nat a word; counts what it really reads."""

    def __init__(self):
        self.name, self.texts = "counting", []

    def read(self, texts, batch_tokens=1024, progress=lambda done: None, cache=None):
        self.texts += texts
        costs = [Surprise(1.0 * len(text.split()), len(text.split())) if text.split() else None for text in texts]
        return Readings(costs, np.zeros((len(texts), 4), dtype=np.float32))


@pytest.fixture
def stories16(monkeypatch):
    module = _script("stories16")
    judge = CountingJudge()
    monkeypatch.setattr(module, "open_judge", lambda name: judge)
    monkeypatch.setattr(module, "cold_start", lambda plan: 1.5)
    module.judge = judge
    return module


@pytest.fixture
def plan(stories16, tiny_model, tmp_path):
    tiny_model.save(tmp_path / "little")
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("\n".join(STORIES), encoding="utf-8")
    return stories16.Plan(
        model=str(tmp_path / "little"), train=tmp_path / "train.txt", test=tmp_path / "test.txt", out=tmp_path / "out",
        stories=3, threads=1, whole_stories=0, into_card=True,
    )  # fmt: skip


def test_stories16_measures_everything_once_and_fills_the_card(stories16, plan):
    said = []
    metrics = stories16.measure(plan, said.append)
    assert metrics == json.loads((plan.out / "metrics.json").read_text())
    assert metrics["generation"]["generated"]["texts"] == 3
    assert metrics["generation"]["real"]["copies"] == 3
    assert metrics["whole_stories"] == "0 of 3" and metrics["start_seconds"] == 1.5
    assert str(plan.out.parent) not in metrics["command"]
    assert (plan.out / "stories.md").read_text().count("\n3. ") == 1

    before, read = len(said), len(stories16.judge.texts)
    assert stories16.measure(plan, said.append) == metrics
    assert len(said) == before and len(stories16.judge.texts) == read  # nothing was done twice

    card = stories16.into_card(plan, metrics).read_text(encoding="utf-8")
    assert "| token accuracy of reconstruction |" in card
    assert TextDiffusion.load(plan.model, "cpu").record["metrics"] == metrics
    assert stories16.measure(plan, said.append) == metrics and len(said) == before  # the card changes no key


def test_stories16_wants_enough_test_stories(stories16, plan):
    with pytest.raises(DataError, match="holds 3 texts, fewer than --stories 9"):
        stories16.measure(dataclasses.replace(plan, stories=9))
