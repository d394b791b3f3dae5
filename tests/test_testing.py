"""The checks for plug-ins: ours pass, and a broken one of each kind is caught by name."""

from dataclasses import dataclass, replace

import pytest
import torch

from textcosm.diffusion.solvers import SOLVERS
from textcosm.tasks import FileTask
from textcosm.tasks.task import Example
from textcosm.testing import check_backbone, check_solver, check_task, tiny_model
from textcosm.text.tiny import TinyBackbone

ORDERS = {"euler-maruyama": 1, "pf-euler": 1, "ddim": 1, "ddpm": 1, "heun": 2, "dpm++2m": 2}


def test_tiny_model_is_the_same_for_the_same_seed():
    assert tiny_model(1).sample(2) == tiny_model(1).sample(2) != tiny_model(2).sample(2)


# --- backbones


def test_the_tiny_backbone_passes():
    check_backbone(TinyBackbone())


class WithoutEnd(TinyBackbone):
    def tokenize(self, texts, max_length):
        batch = super().tokenize(texts, max_length)
        return replace(batch, tokens=batch.tokens.where(batch.tokens != self.tokenizer.end_id, 9))


class FeelsPadding(TinyBackbone):
    def encode(self, tokens, mask):
        return super().encode(tokens, torch.ones_like(mask))


class Restless(TinyBackbone):
    def encode(self, tokens, mask):
        return super().encode(tokens, mask) + torch.rand(())


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (WithoutEnd(), "must keep its end token"),
        (FeelsPadding(), "encodes differently beside a longer one"),
        (Restless(), "differs from call to call"),
        (object(), "lacks members of the protocol Backbone"),
    ],
)
def test_broken_backbones(backbone, message):
    with pytest.raises(AssertionError, match=message):
        check_backbone(backbone)


# --- solvers


@pytest.mark.parametrize("name", SOLVERS)
def test_the_solvers_pass_with_their_orders(name):
    assert check_solver(SOLVERS[name](), order=ORDERS[name]) == pytest.approx(ORDERS[name], abs=0.1)


@dataclass(frozen=True)
class Standing:
    def step(self, process, now, s, past):
        return now.noisy


@dataclass(frozen=True)
class Squeezing:
    def step(self, process, now, s, past):
        return now.noisy.squeeze()


@pytest.mark.parametrize(
    ("solver", "message"),
    [(Standing(), "does not converge"), (Squeezing(), "step gives"), (object(), "has no method step")],
)
def test_broken_solvers(solver, message):
    with pytest.raises(AssertionError, match=message):
        check_solver(solver)


def test_a_promise_of_too_high_an_order():
    with pytest.raises(AssertionError, match=r"the observed order is 0\.99, not 2"):
        check_solver(SOLVERS["ddim"](), order=2)


# --- tasks


def test_a_file_task_passes(tmp_path):
    (tmp_path / "texts.txt").write_text("".join(f"The dog saw {i} cats.\n" for i in range(100)))
    check_task(FileTask(tmp_path / "texts.txt", valid_fraction=0.2))


class ListTask:
    name, metrics = "list", ("diversity",)

    def __init__(self, train, valid):
        self.splits = {"train": train, "valid": valid}

    def examples(self, split):
        return iter(self.splits[split])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ListTask([Example("a"), Example("b")], [Example("b")]), "1 texts are in train and in valid, first 'b'"),
        (ListTask([], []), "train is empty"),
        (ListTask([Example(" ")], []), "blank text"),
        (ListTask(["a"], []), "something else than Example"),
        (object(), "lacks members of the protocol Task"),
    ],
)
def test_broken_tasks(task, message):
    with pytest.raises(AssertionError, match=message):
        check_task(task)
