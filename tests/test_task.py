"""runs/task.py: the page of a task, from end to end over the tiny backbone, and again from where it stopped."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from textcosm.baselines.rival import Rival, count_forms, new_network
from textcosm.baselines.settings import RivalConfig, RivalSampler
from textcosm.baselines.tokens import Vocabulary
from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.judges import Judge, Readings, Surprise
from textcosm.evaluation.paired import Scorers
from textcosm.testing import tiny_model
from textcosm.text.tiny import TinyBackbone

RUNS = Path(__file__).parents[1] / "runs"
THINGS = ("a red cat", "the dog", "a big tree", "the old house")
PAIRS = [
    {"source": f"you stupid {thing} {i}", "targets": [f"you {thing} {i}", f"{thing} {i} is not good"][: 1 + i % 2]}
    for i in range(6)
    for thing in THINGS
]


class CountingJudge(Judge):
    """A word costs as many nats as it has letters over four; counts what it reads."""

    def __init__(self):
        self.name, self.texts = "counting", 0

    def read(self, texts, batch_tokens=1024, progress=lambda done: None, cache=None):
        self.texts += len(texts)
        costs = [Surprise(len(t) / 4, len(t.split())) if t.split() else None for t in texts]
        return Readings(costs, np.zeros((len(texts), 2), dtype=np.float32))


@pytest.fixture
def task(monkeypatch):
    """The script, with a judge and an encoder at hand."""
    monkeypatch.syspath_prepend(str(RUNS))
    module = importlib.import_module("task")
    module.judge = CountingJudge()
    scorers = Scorers(encoder=TinyBackbone(), judge=module.judge)
    monkeypatch.setattr(module.TaskStudy, "scorers", scorers)
    yield module
    for name in ("task", "headline", "page", "study"):
        sys.modules.pop(name, None)


@pytest.fixture
def model(tmp_path):
    """The folder of an untrained model that reads sources."""
    tiny_model(source_length=512).save(tmp_path / "ours")
    return str(tmp_path / "ours")


@pytest.fixture
def rival(tmp_path):
    """The folder of an untrained encoder-decoder."""
    backbone = TinyBackbone()
    batch = backbone.tokenize([pair["source"] for pair in PAIRS], 24)
    tokens, forms = batch.tokens[batch.mask], batch.forms[batch.mask]
    vocabulary = Vocabulary.of(tokens, backbone.tokenizer.special)
    sizes = RivalConfig(width=16, depth=1, heads=2, ff_width=16, max_length=12, encoder_depth=1, source_length=24)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = new_network("encoder-decoder", sizes, vocabulary)
    ours = vocabulary.shrink(tokens)
    made = Rival(network, count_forms(vocabulary, ours, ours.roll(1), forms), backbone.tokenizer, RivalSampler(beams=4))
    made.save(tmp_path / "rival")
    return str(tmp_path / "rival")


@pytest.fixture
def plan(task, model, rival, tmp_path):
    test = tmp_path / "test.jsonl"
    test.write_text("\n".join(map(json.dumps, PAIRS)), encoding="utf-8")
    return task.TaskPlan(
        task="detoxification", systems=(model, rival, "rule:copy", "rule:delete"), test=test, out=tmp_path / "out",
        docs=tmp_path / "docs", steps=(1,), guidance=(2.0,), mbr=(2,), best=(2,), strength=(0.5,), beams=(2, 1), rounds=1, texts=6, device="cpu",
        threads=torch.get_num_threads(),
    )  # fmt: skip


def rows_of(text, first):
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:1] == "|"]
    return [line for line in lines if line[0].startswith(first)]


@pytest.mark.slow
def test_the_page_of_a_task_is_measured_once(task, plan, tmp_path):
    said = []
    page = task.study(plan, said.append)
    text, read, before = page.read_text(encoding="utf-8"), task.judge.texts, len(said)
    assert page == tmp_path / "docs" / "detoxification.md"
    assert task.study(plan, said.append).read_text(encoding="utf-8") == text
    assert (len(said), task.judge.texts) == (before, read)

    own = [row for row in rows_of(text, "ours") if "steps" in row[0]]
    steps = [row[0].removeprefix("ours, ") for row in own]
    assert steps[0].endswith(" steps") and "1 steps" in steps
    assert all(any(what in name for name in steps) for what in ("guidance 2", "best of 2", "least error of 2"))
    assert [row[0] for row in rows_of(text, "ours, rewriting")] == ["ours, rewriting at 0.5"]
    assert [row[0] for row in rows_of(text, "rival, ")] == ["rival, 2 beams", "rival, greedy"]
    head = rows_of(text, "system")[0]
    copied = dict(zip(head, rows_of(text, "copy")[0], strict=True))
    assert copied["similarity"].startswith("1.000") and copied["fluency"].startswith("1.000")
    assert copied["style accuracy"].startswith("0.000") and copied["joint"].startswith("0.000")
    deleted = dict(zip(head, rows_of(text, "delete")[0], strict=True))
    assert deleted["style accuracy"].startswith("1.000") and float(deleted["ROUGE-1"].split()[0]) > 0.9
    human = dict(zip(head, rows_of(text, "first reference")[0], strict=True))
    assert human["BLEU"] == "-" and human["style accuracy"].startswith("1.000")
    assert text.count("- *source*: you stupid") == 6 + 6 and "## What fails: the 6 worst of ours" in text
    assert text.count("- rival, 2 beams: ") == 12 and text.count("- delete: you ") == 12 and "- copy: " not in text
    assert page.with_suffix(".svg").is_file() and str(plan.out.parent) not in text
    assert "--beams 2 1 --rounds 1" in text


def test_what_there_was_no_time_for_is_said(task, plan):
    page = task.study(replace(plan, max_minutes=0.0), lambda line: None).read_text(encoding="utf-8")
    assert "Not measured for want of time: answers-ours--" in page.replace("\n", " ")
    assert task.judge.texts == 0


def test_texts_that_may_not_be_copied_stay_off_the_page(task, plan):
    systems = ("rule:copy", "rule:delete")
    for show, outputs in (("outputs", 12), ("none", 0)):
        page = task.study(replace(plan, systems=systems, show=show), lambda line: None).read_text(encoding="utf-8")
        assert page.count("- delete: ") == outputs and "*source*" not in page and "*reference*" not in page


def test_other_pairs_can_stand_on_the_page(task, plan, tmp_path):
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps({"source": "a damn cake", "targets": ["a cake"]}) + "\n", encoding="utf-8")
    plan = replace(plan, systems=("rule:copy", "rule:delete"), samples=own)
    page = task.study(plan, lambda line: None).read_text(encoding="utf-8")
    assert "## 1 written for this page" in page and "- *source*: a damn cake\n- *reference*: a cake\n- delete: a cake" in page
    assert page.count("*source*") == 1 and "What fails" not in page and "--samples own.jsonl" in page
    assert "6 different sources of test.jsonl" in page.replace("\n", " ")  # which is what is measured


def test_only_what_answers_sources_is_compared(task, plan, tmp_path):
    tiny_model().save(tmp_path / "stories")
    for systems, message in (
        ((str(tmp_path / "stories"),), "reads no source; give one that was trained on pairs"),
        (("rule:shout",), "there is no rule 'rule:shout'"),
        (("rule:copy", "rule:copy"), "two systems are called 'copy'"),
    ):
        with pytest.raises(ConfigError, match=message):
            task.TaskStudy(replace(plan, systems=systems))
    with pytest.raises(DataError, match="holds 24 different sources, fewer than n = 25"):
        task.TaskStudy(replace(plan, texts=25))


def test_other_tasks_are_judged_beside_references_alone(task, plan):
    work = task.TaskStudy(replace(plan, task="summarisation", systems=("rule:copy",)))
    assert work.metrics == ["rouge1", "rouge2", "rougeL", "bleu", "bertscore"] and work.main == "rougeL"
    assert work.human() is None


def test_nothing_in_a_text_is_markdown(task):
    assert task._line("a *b*\n_c_ | <d> #e") == r"a \*b\* \_c\_ \| \<d\> \#e"
    long = task._given(task.Row("t", "word " * 200, ("yes", "no")))
    assert len(long[0][1]) <= task.LONGEST_SHOWN + 4 and long[1:] == [("*reference*", "yes"), ("*reference*", "no")]


def test_the_plan_can_be_given_on_the_command_line(task):
    import tyro

    arguments = "detoxification ours rival rule:copy --test t.jsonl --out o --steps 20 10 --mbr 5 --beams 4 --show outputs"
    found = tyro.cli(task.TaskPlan, args=arguments.split())
    assert (found.task, found.systems, found.steps) == ("detoxification", ("ours", "rival", "rule:copy"), (20, 10))
