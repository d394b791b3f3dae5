"""Rivals trained on a small corpus: by function and by command, in one go and in two, over a cache of our own."""

import dataclasses
import json

import pytest
import torch

from textcosm.baselines import open_rival
from textcosm.baselines.rival import new_network
from textcosm.baselines.settings import RivalConfig
from textcosm.baselines.tokens import Vocabulary
from textcosm.cli import main
from textcosm.diffusion.denoiser import new_denoiser
from textcosm.errors import ConfigError, TrainingError
from textcosm.presets import PRESETS
from textcosm.tasks import DataConfig
from textcosm.text.backbone import BackboneConfig
from textcosm.training.fit import FitConfig
from textcosm.training.rivals import RivalRecipe, default_recipe, train_rival

KINDS = ("autoregressive", "masked")
SIZES = RivalConfig(width=16, depth=1, heads=2, ff_width=16, max_length=32, encoder_depth=1, source_length=24)
FIT = FitConfig(steps=6, batch_size=8, learning_rate=1e-2, warmup=1, log_every=2, valid_every=3, clip=1.0, ema=0.9)


PAIRS = DataConfig(valid_fraction=0.1, task="detoxification")


def recipe_of(kind):
    return RivalRecipe(kind, BackboneConfig("tiny"), SIZES, DataConfig(valid_fraction=0.1), FIT)


@pytest.fixture
def pairs(tmp_path):
    """Sources with one or two answers that repeat them, and two pairs with a side missing."""
    names, things = ("Ann", "Tom", "Sue", "Ned"), ("a red cat", "the old dog", "a big tree")
    rows = []
    for i in range(60):
        source = f"{names[i % 4]} stupid {things[i // 4 % 3]} {i}"
        answers = [f"{names[i % 4]} {things[i // 4 % 3]} {i}", f"{things[i // 4 % 3]} {i}"]
        rows.append({"source": source, "targets": answers[: 1 + i % 2]})
    rows += [{"source": " ", "targets": ["nothing"]}, {"source": "the long " + "bus " * 40, "targets": ["the bus"]}]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_a_rival_that_writes(kind, corpus, tmp_path):
    reports = []
    result = train_rival(recipe_of(kind), corpus, tmp_path / "run", report=reports.append, device="cpu")
    assert result.finished and result.model == tmp_path / "run" / "model"
    assert 60 < result.texts < 80 and result.cut == 0
    last = reports[-1]
    assert (last.stage, last.step) == (kind, 6)
    assert last.metrics["valid_loss"] < 30
    rival = open_rival(tmp_path / "run")
    assert len(rival.sample(2)) == 2
    assert rival.record["data"]["texts"] == result.texts
    assert rival.record[kind]["steps"] == 6


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_goes_on_to_the_same_rival(kind, corpus, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_rival(recipe_of(kind), corpus, whole, device="cpu")
    stopped = train_rival(recipe_of(kind), corpus, parts, device="cpu", cache=whole / "cache", max_seconds=0)
    assert not stopped.finished and stopped.model is not None  # as far as it got: nowhere
    assert train_rival(recipe_of(kind), corpus, parts, device="cpu", cache=whole / "cache").finished
    one, other = (open_rival(folder).network.state_dict() for folder in (whole, parts))
    assert all(one[name].equal(other[name]) for name in one)


def test_the_cache_of_our_own_training_serves(finished_run, tmp_path):
    """Same file, backbone, length and held-out share: nothing is tokenised again."""
    folder, _ = finished_run
    made = (folder / "cache" / "train-texts" / "meta.json").stat().st_mtime_ns
    reports, corpus = [], folder.parent / "stories.txt"
    recipe = recipe_of("autoregressive")
    result = train_rival(recipe, corpus, tmp_path, report=reports.append, cache=folder / "cache", device="cpu")
    assert {report.stage for report in reports} == {"autoregressive"}
    assert result.finished and (folder / "cache" / "train-texts" / "meta.json").stat().st_mtime_ns == made
    other = dataclasses.replace(recipe, data=DataConfig(valid_fraction=0.2))
    with pytest.raises(TrainingError, match=r"data_config.valid_fraction = 0.1, not 0.2"):
        train_rival(other, corpus, tmp_path, cache=folder / "cache", device="cpu")


def test_a_folder_keeps_its_settings(corpus, tmp_path):
    recipe = recipe_of("masked")
    train_rival(recipe, corpus, tmp_path, device="cpu")
    with pytest.raises(TrainingError, match="kind"):
        train_rival(dataclasses.replace(recipe, kind="autoregressive"), corpus, tmp_path, device="cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls(kind, corpus, tmp_path):
    recipe = dataclasses.replace(recipe_of(kind), training=dataclasses.replace(FIT, steps=60, log_every=10))
    reports = []
    train_rival(recipe, corpus, tmp_path, report=reports.append, device="cpu")
    losses = [report.metrics["loss"] for report in reports if report.stage == kind]
    assert losses[-1] < 0.75 * losses[0]


def answering(**changes):
    return dataclasses.replace(recipe_of("encoder-decoder"), data=PAIRS, **changes)


def test_a_rival_learns_to_answer_sources(pairs, tmp_path):
    reports, training = [], dataclasses.replace(FIT, steps=60, log_every=10, valid_every=60)
    result = train_rival(answering(training=training), pairs, tmp_path / "run", report=reports.append, device="cpu")
    losses = [report.metrics["loss"] for report in reports if report.stage == "encoder-decoder"]
    assert losses[-1] < 0.8 * losses[0]
    assert result.finished and 70 < result.texts < 90 and (result.left_out, result.sources_cut) == (1, 1)
    rival = open_rival(tmp_path / "run")
    assert len(rival.sample(source=["Ann stupid a red cat", "Tom"])) == 2
    assert rival.record["recipe"]["data"]["task"] == "detoxification" and rival.record["data"]["sources_cut"] == 1


def test_a_stopped_run_on_pairs_goes_on_to_the_same_rival(pairs, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_rival(answering(), pairs, whole, device="cpu")
    cache = whole / "cache"
    assert not train_rival(answering(), pairs, parts, device="cpu", cache=cache, max_seconds=0).finished
    assert train_rival(answering(), pairs, parts, device="cpu", cache=cache).finished
    one, other = (open_rival(folder).network.state_dict() for folder in (whole, parts))
    assert all(one[name].equal(other[name]) for name in one)
    with pytest.raises(TrainingError, match=r"model.dropout = 0.1, not 0.0"):
        train_rival(answering(model=dataclasses.replace(SIZES, dropout=0.0)), pairs, parts, device="cpu", cache=cache)


def test_words_of_sources_alone_are_written_as_there(pairs, tmp_path):
    """No answer has "stupid"; sources have it after a space, and answers alone tell that "a" stands first."""
    train_rival(answering(), pairs, tmp_path / "run", device="cpu")
    rival = open_rival(tmp_path / "run")
    batch = rival.tokenizer.tokenize(["Ann stupid a red cat"], 24)
    assert rival.write(rival.network.vocabulary.shrink(batch.tokens)) == ["Ann stupid a red cat"]


def test_answering_needs_sources(corpus, tmp_path):
    with pytest.raises(ConfigError, match="answers sources, but the data is texts alone; give --task NAME"):
        train_rival(recipe_of("encoder-decoder"), corpus, tmp_path)


def test_runs_from_before_there_were_sources_go_on(corpus, tmp_path):
    train_rival(recipe_of("masked"), corpus, tmp_path, device="cpu")
    model = json.loads((tmp_path / "rival" / "settings.json").read_text())["model"]
    assert set(model) == {"width", "depth", "heads", "ff_width", "max_length"}


def test_the_default_rival_of_detox_16_has_its_parameters():
    """The denoiser with its source encoder, and the rival's network without its token embeddings."""
    ours = PRESETS["detox-16"].recipe.model
    with torch.device("meta"):
        denoiser = new_denoiser(ours.denoiser, ours.schedule, (16, 384), 384)
        sizes = default_recipe("encoder-decoder").model
        network = new_network("encoder-decoder", sizes, Vocabulary(torch.arange(9), 1, 2, 0))
    theirs = sum(p.numel() for p in network.parameters()) - network.embeddings.numel()
    assert theirs / sum(p.numel() for p in denoiser.parameters()) == pytest.approx(1, abs=0.02)


def test_the_command(corpus, tmp_path, capsys):
    flags = (
        "--backbone.name tiny --backbone.layer -1 --width 16 --depth 1 --heads 2 --ff-width 16 --max-length 32 --steps 2 "
        "--batch-size 8 --device cpu --sampler.top-p 0.8"
    )
    code = main(["baseline", "masked", str(corpus), "--out", str(tmp_path / "run"), *flags.split()])
    notes = capsys.readouterr().err
    assert code == 0 and f"the rival is in {tmp_path / 'run' / 'model'}" in notes
    settings = json.loads((tmp_path / "run" / "rival" / "settings.json").read_text())
    assert settings["kind"] == "masked" and settings["training"]["batch_size"] == 8
    assert open_rival(tmp_path / "run").sampler.top_p == 0.8


def test_the_command_for_pairs(pairs, tmp_path, capsys):
    flags = (
        "--backbone.name tiny --backbone.layer -1 --width 16 --depth 1 --heads 2 --encoder-depth 1 --max-length 32 "
        "--source-length 24 --steps 2 --valid-fraction 0.1 --device cpu --ff-width 16"
    )
    run = tmp_path / "run"
    arguments = ["baseline", "encoder-decoder", str(pairs), *flags.split(), "--out"]
    code = main([*arguments, str(run), "--task", "detoxification"])
    notes = capsys.readouterr().err
    assert code == 0 and "sources were longer than 24 tokens and were cut" in notes and "pairs left out" in notes
    settings = json.loads((run / "rival" / "settings.json").read_text())
    assert (settings["training"]["batch_size"], open_rival(run).sampler.beams) == (32, 4)
    assert main([*arguments, str(tmp_path / "other")]) == 2
    assert "give --task NAME or fields of pairs" in capsys.readouterr().err
