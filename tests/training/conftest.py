"""What the training tests share: a stage small enough to train in a blink, and a recipe over the tiny backbone."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from textcosm.config import Config
from textcosm.diffusion.denoiser import DenoiserConfig, SourceConfig
from textcosm.latent.autoencoder import AutoencoderConfig
from textcosm.tasks import DataConfig
from textcosm.text.backbone import BackboneConfig
from textcosm.training.fit import FitConfig, seed_of
from textcosm.training.recipe import Recipe


class ToyNetwork(nn.Module):
    """A matrix of each kind: in a block, outside of one, a gain."""

    def __init__(self):
        super().__init__()
        self.enter = nn.Linear(4, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8, bias=False)])
        self.leave = nn.Sequential(nn.Dropout(0.2), nn.LayerNorm(8), nn.Linear(8, 1))

    def forward(self, x):
        return self.leave(self.blocks[0](self.enter(x)))


class ToyStage:
    """Regression with dropout; at step ``bad_step`` its loss is not a number."""

    name = "toy"
    texts_per_step = 8

    def __init__(self, bad_step: int | None = None):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.module = ToyNetwork()
        self.bad_step = bad_step

    def loss(self, step):
        generator = torch.Generator().manual_seed(seed_of("toy", step))
        x = torch.randn(8, 4, generator=generator)
        error = (self.module(x)[:, 0] - x.sum(1)).square().mean()
        if step == self.bad_step:
            error = error * float("nan")
        return {"loss": error, "half": error / 2}

    def validate(self):
        return {"weight": float(self.module.enter.weight.detach().sum())}


@pytest.fixture
def toy_stage():
    return ToyStage


def write_corpus(folder):
    """A file of 80 short texts of several lengths."""
    names, verbs, things = ("Ann", "Tom", "Sue"), ("sees", "likes", "finds"), ("a red cat", "the old dog", "a big tree")
    lines = [f"{names[i % 3]} {verbs[i // 3 % 3]} {things[i // 9 % 3]}{' and runs' * (i % 4)} {i}." for i in range(80)]
    path = folder / "stories.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path):
    return write_corpus(tmp_path)


@pytest.fixture(scope="session")
def finished_run(recipe, tmp_path_factory):
    """One whole run of the recipe on the corpus: its folder and its reports; tests take copies."""
    from textcosm.training.train import train

    folder, reports = tmp_path_factory.mktemp("finished"), []
    result = train(recipe, write_corpus(folder), folder / "run", report=reports.append, device="cpu")
    assert result.finished and result.model == folder / "run" / "model"
    return folder / "run", reports


@pytest.fixture(scope="session")
def recipe():
    """Six steps of each stage."""
    fit = FitConfig(
        steps=6, batch_size=8, learning_rate=1e-3, warmup=2, log_every=1, valid_every=3, optimizer="muon", ema=0.9
    )
    model = Config(
        backbone=BackboneConfig("tiny"),
        autoencoder=AutoencoderConfig(
            num_latents=4, max_length=32, compressor_depth=1, decompressor_depth=1, heads=2, head_width=16
        ),
        denoiser=DenoiserConfig(width=32, depth=2, heads=2, ff_width=32),
    )
    data = DataConfig(valid_fraction=0.1)
    return Recipe(model, data, fit, dataclasses.replace(fit, optimizer="adamw", schedule="constant"))


def write_pairs(folder, name="pairs.jsonl"):
    """60 sources, every third with two answers: the answer says which word of the source stands in its middle."""
    names, things = ("Ann", "Tom", "Sue", "Bo", "Kim"), ("cat", "dog", "tree")
    sources = [f"{names[i % 5]} has {i} big {things[i % 3]}s at home" for i in range(60)]
    records = [
        {"source": source, "targets": [f"a {things[i % 3]}.", f"one {things[i % 3]}."][: 1 + (i % 3 == 0)]}
        for i, source in enumerate(sources)
    ]
    path = folder / name
    path.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    return path


@pytest.fixture
def pairs(tmp_path):
    return write_pairs(tmp_path)


@pytest.fixture(scope="session")
def paired_recipe(recipe):
    """The same for texts that answer sources, the decoder adapted as well."""
    denoiser = dataclasses.replace(recipe.model.denoiser, source_depth=1)
    model = dataclasses.replace(recipe.model, denoiser=denoiser, source=SourceConfig(max_length=12))
    data = DataConfig(valid_fraction=0.2, task="detoxification")
    adapting = {"adapt_decoder": True, "adaptation_training": recipe.autoencoder_training}
    return dataclasses.replace(recipe, model=model, data=data, **adapting)
