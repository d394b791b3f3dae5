"""The study of control in runs/, from end to end on an untrained model, and again from where it stopped."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from textcosm.evaluation.judges import Judge, Readings, Surprise

RUNS = Path(__file__).parents[1] / "runs"
STORIES = [f"The {animal} ran to the {place}. It was {mood}." for animal in ("dog", "cat") for place in ("park", "house")
           for mood in ("happy", "sad")]  # fmt: skip


class CountingJudge(Judge):
    """One nat a word."""

    def __init__(self):
        self.name, self.texts = "counting", 0

    def read(self, texts, batch_tokens=1024, progress=lambda done: None, cache=None):
        self.texts += len(texts)
        costs = [Surprise(1.0 * len(text.split()), len(text.split())) if text.split() else None for text in texts]
        return Readings(costs, np.zeros((len(texts), 4), dtype=np.float32))


@pytest.mark.slow
def test_the_page_of_control(monkeypatch, tiny_model, tmp_path):
    monkeypatch.syspath_prepend(str(RUNS))
    try:
        control, judge = importlib.import_module("control"), CountingJudge()
        monkeypatch.setattr(importlib.import_module("study"), "open_judge", lambda name, device="cpu": judge)
        tiny_model.save(tmp_path / "little")
        (tmp_path / "test.txt").write_text("\n".join(STORIES))
        plan = control.ControlPlan(
            model=str(tmp_path / "little"), test=tmp_path / "test.txt", out=tmp_path / "out", docs=tmp_path / "docs", examples=tmp_path / "own.txt", texts=3,
            strengths=(0.0, 0.5), lengths=(8,), steps=2, threads=torch.get_num_threads(), device="cpu",
        )  # fmt: skip
        (tmp_path / "own.txt").write_text("The dog saw a cat. It ran home again.\n")
        page = control.study(plan, lambda line: None)
        text, read = page.read_text(encoding="utf-8"), judge.texts
        assert "## Rewriting" in text and "| 0.5 | " in text and "\n| 8 | " in text
        assert text.count("| 4 | 4 | ") == 2  # filled and continued: refinements, best of
        assert "## Filling blanks" in text and "## Continuing" in text and str(tmp_path) not in text
        assert "| The dog saw a cat. It ran home again. | " in text and not any(story in text for story in STORIES)
        assert text.count("| The dog saw \\_\\_\\_\\_ ran home again. | ") == 1
        assert control.study(plan, lambda line: None).read_text(encoding="utf-8") == text and judge.texts == read
    finally:
        for name in ("control", "study", "page"):
            sys.modules.pop(name, None)
