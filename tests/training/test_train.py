"""From a file to a model: every stage runs, stops, goes on, and refuses what does not fit."""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from textcosm.errors import BackboneError, ConfigError, DataError, TextcosmError, TrainingError
from textcosm.pipeline import TextDiffusion
from textcosm.presets import preset
from textcosm.tasks import DataConfig
from textcosm.text.tiny import TinyBackbone
from textcosm.training.cache import TextStore, open_rows
from textcosm.training.distill import DistillConfig, distill
from textcosm.training.journal import read_journal
from textcosm.training.stages import AdaptationConfig
from textcosm.training.train import train
from training.conftest import write_pairs


@pytest.fixture
def trained(finished_run, tmp_path):
    """A finished run of its own for the test."""
    return Path(shutil.copytree(finished_run[0], tmp_path / "run"))


def losses(directory, adapted=False):
    timing = {"texts_per_second", "seconds", "gflop_per_second", "utilisation"}
    stages = ("autoencoder", "diffusion", "adaptation")[: 2 + adapted]
    journals = [read_journal(directory / stage / "journal.jsonl") for stage in stages]
    return [{k: v for k, v in record.items() if k not in timing} for journal in journals for record in journal]


def test_a_file_becomes_a_model(finished_run):
    directory, reports = finished_run
    model = TextDiffusion.load(directory, device="cpu")
    assert len(model.sample(3, steps=2)) == 3
    assert model.encode(["Ann sees a red cat."]).shape == (1, 4, 32)
    stages = list(dict.fromkeys(report.stage for report in reports))
    assert stages[-2:] == ["compress valid", "diffusion"] and "autoencoder" in stages and stages[0] == "tokenise train"
    assert [report.step for report in reports if report.stage == "diffusion"] == [1, 2, 3, 4, 5, 6]


def test_the_model_keeps_what_follows_what(trained, corpus):
    model = TextDiffusion.load(trained, device="cpu")
    texts = model.tokenizer.tokenize(corpus.read_text().splitlines(), 99)
    assert model.ngrams is not None and model.ngrams.unigrams[model.tokenizer.start_id] == model.record["data"]["texts"]
    assert len(model.ngrams.trigrams.keys) and model.ngrams.unigrams.sum() <= texts.mask.sum()
    assert len(model.sample(2, steps=2, lm_weight=1.0)) == 2


def test_latents_of_the_model_are_normalised(trained, corpus):
    model = TextDiffusion.load(trained, device="cpu")
    latents = model.encode(corpus.read_text().splitlines())
    assert latents.mean(0).abs().max() < 0.5
    assert 0.8 < latents.std() < 1.2


def test_the_record_tells_how_and_names_no_place(trained, tmp_path):
    record = TextDiffusion.load(trained, device="cpu").record
    assert record["data"]["name"] == "stories.txt" and record["data"]["mean_tokens"] > 5
    assert record["autoencoder"]["steps"] == record["diffusion"]["steps"] == 6
    assert 0 <= record["autoencoder"]["valid_accuracy"] <= 1
    assert record["recipe"]["seed"] == 0
    assert str(tmp_path) not in str(record)


def test_the_exported_denoiser_is_the_average(trained):
    from safetensors.torch import load_file

    state = load_file(trained / "diffusion" / "state.safetensors")
    model = TextDiffusion.load(trained, device="cpu")
    weight = dict(model.denoiser.named_parameters())["blocks.0.from_time.weight"]
    assert torch.equal(weight, state["ema/blocks.0.from_time.weight"])
    assert not torch.equal(weight, state["module/blocks.0.from_time.weight"])


def test_stopped_at_any_report_it_goes_on_to_the_same_losses(trained, corpus, recipe, tmp_path):
    """A signal at every 4th report, whatever is under way; a KeyboardInterrupt never shows."""
    before = signal.getsignal(signal.SIGTERM)
    finished, calls = False, 0
    while not finished:
        count = 0

        def interrupt(report):
            nonlocal count
            count += 1
            if count == 4:
                signal.raise_signal(signal.SIGTERM)

        finished = train(recipe, corpus, tmp_path / "parts", report=interrupt, device="cpu").finished
        calls += 1
    assert calls > 3 and signal.getsignal(signal.SIGTERM) is before
    assert losses(tmp_path / "parts") == losses(trained)
    whole, parts = (TextDiffusion.load(tmp_path / name, device="cpu") for name in ("run", "parts"))
    assert whole.sample(2, steps=2) == parts.sample(2, steps=2)


def test_a_second_signal_ends_it_at_once(corpus, recipe, tmp_path):
    def impatient(report):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(recipe), corpus, tmp_path / "run", report=lambda r: [impatient(r), impatient(r)])


def test_time_slices_get_there(corpus, recipe, tmp_path):
    result = train(recipe, corpus, tmp_path / "run", max_seconds=0, device="cpu")
    assert not result.finished and result.model is None
    assert train(recipe, corpus, tmp_path / "run", max_seconds=600, device="cpu").finished


def test_one_stage_at_a_time(corpus, recipe, tmp_path, trained):
    out = tmp_path / "stages"
    with pytest.raises(TrainingError, match="holds no training state; train that stage first"):
        train(recipe, corpus, out, "diffusion", device="cpu")
    assert train(recipe, corpus, out, "autoencoder", device="cpu").model is None
    assert not (out / "diffusion").exists()
    assert train(recipe, corpus, out, "diffusion", device="cpu").model is not None
    assert losses(out) == losses(trained)


def test_export_writes_the_model_of_an_unfinished_run(corpus, recipe, tmp_path):
    out, reports = tmp_path / "run", []

    def stop_in_diffusion(report):
        reports.append(report)
        if report.stage == "diffusion":
            signal.raise_signal(signal.SIGTERM)

    assert not train(recipe, corpus, out, report=stop_in_diffusion, device="cpu").finished
    assert train(recipe, corpus, out, "export", device="cpu").model == out / "model"
    assert TextDiffusion.load(out, device="cpu").record["diffusion"]["steps"] == 1
    assert train(recipe, corpus, out, device="cpu").finished
    assert TextDiffusion.load(out, device="cpu").record["diffusion"]["steps"] == 6


def test_diffusion_never_runs_the_encoder(corpus, recipe, tmp_path, monkeypatch):
    calls = []
    encode = TinyBackbone.encode
    monkeypatch.setattr(
        TinyBackbone, "encode", lambda self, tokens, mask: calls.append(1) or encode(self, tokens, mask)
    )
    train(recipe, corpus, tmp_path / "run", "autoencoder", device="cpu")
    assert calls
    calls.clear()
    train(recipe, corpus, tmp_path / "run", device="cpu")
    assert not calls


def test_without_a_cache_the_encoder_runs_at_each_step(corpus, recipe, tmp_path):
    recipe = dataclasses.replace(recipe, cache_activations=False)
    assert train(recipe, corpus, tmp_path / "run", device="cpu").finished
    assert not (tmp_path / "run" / "cache" / "train-activations").exists()


def test_published_start_and_no_validation_texts(corpus, recipe, tmp_path):
    autoencoder = dataclasses.replace(recipe.model.autoencoder, init="published", max_length=8)
    model = dataclasses.replace(recipe.model, autoencoder=autoencoder)
    data = dataclasses.replace(recipe.data, valid_fraction=0.0)
    result = train(dataclasses.replace(recipe, model=model, data=data), corpus, tmp_path / "run", device="cpu")
    assert result.finished and result.texts == 80 and result.cut > 0
    assert not any(name.startswith("valid_") for record in losses(tmp_path / "run") for name in record)


def change(recipe, path, value):
    """The recipe with one dotted setting changed."""
    name, _, rest = path.partition(".")
    return dataclasses.replace(recipe, **{name: change(getattr(recipe, name), rest, value) if rest else value})


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 1),
        ("model.autoencoder.dropout", 0.5),
        ("model.denoiser.depth", 3),
        ("autoencoder_training.learning_rate", 0.5),
        ("diffusion_training.ema", 0.5),
        ("data.valid_fraction", 0.2),
    ],
)
def test_other_settings_in_the_same_folder_are_named(trained, corpus, recipe, path, value):
    field = path.removeprefix("data.")
    with pytest.raises(TrainingError, match=f"{field} = .*, not {value}; give another folder") as caught:
        train(change(recipe, path, value), corpus, trained, device="cpu")
    assert "\n" not in str(caught.value)


def test_settings_that_change_no_loss_may_change(trained, corpus, recipe):
    recipe = change(change(recipe, "diffusion_training.log_every", 2), "diffusion_training.steps", 8)
    assert train(recipe, corpus, trained, device="cpu").finished
    assert losses(trained)[-1]["step"] == 8


def test_other_texts_in_the_same_folder_are_refused(trained, corpus, recipe):
    corpus.write_text("Something else.\nAltogether.\n")
    with pytest.raises(TrainingError, match="train-texts was made with data = .*stories.txt"):
        train(recipe, corpus, trained, device="cpu")


def test_a_moved_file_is_the_same_file(trained, corpus, recipe, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    moved = corpus.rename(tmp_path / "elsewhere" / corpus.name)
    assert train(recipe, moved, trained, device="cpu").finished


def test_a_shared_cache_is_used(trained, corpus, recipe, tmp_path):
    reports = []
    cache = trained / "cache"
    train(change(recipe, "seed", 5), corpus, tmp_path / "other", report=reports.append, cache=cache, device="cpu")
    assert not any(report.stage.startswith(("tokenise", "encode")) for report in reports)
    assert not (tmp_path / "other" / "cache").exists()


@pytest.mark.parametrize("source", ["run", "run/model"])
def test_an_autoencoder_can_be_taken_from_a_run_or_a_model(trained, corpus, recipe, tmp_path, source):
    taken = dataclasses.replace(recipe, init_autoencoder=str(tmp_path / source))
    assert train(taken, corpus, tmp_path / "other", device="cpu").finished
    assert not (tmp_path / "other" / "autoencoder").exists()
    whole, other = (TextDiffusion.load(tmp_path / name, device="cpu") for name in ("run", "other"))
    state = other.autoencoder.state_dict()
    taken_over = {n: t for n, t in whole.autoencoder.state_dict().items() if not n.startswith("form_head.")}  # fitted anew
    assert all(torch.equal(tensor, state[name]) for name, tensor in taken_over.items())
    assert other.record["recipe"]["init_autoencoder"] == Path(source).name


def test_an_autoencoder_of_another_encoder_or_size_is_refused(trained, corpus, recipe, tmp_path):
    taken = dataclasses.replace(recipe, init_autoencoder=str(tmp_path / "run" / "model"))
    with pytest.raises(BackboneError, match="give the same model.backbone"):
        train(change(taken, "model.backbone.layer", 0), corpus, tmp_path / "other", device="cpu")
    with pytest.raises(TrainingError, match="other sizes"):
        train(change(taken, "model.autoencoder.heads", 1), corpus, tmp_path / "more", device="cpu")
    with pytest.raises(ConfigError, match="init_autoencoder"):
        train(taken, corpus, tmp_path / "none", "autoencoder", device="cpu")


def test_a_second_corpus_feeds_the_autoencoder_alone(corpus, recipe, tmp_path):
    extra = tmp_path / "extra.txt"
    extra.write_text("\n".join(f"The tree number {i} is green." for i in range(40)))
    result = train(dataclasses.replace(recipe, autoencoder_data=str(extra)), corpus, tmp_path / "run", device="cpu")
    record = TextDiffusion.load(tmp_path / "run", device="cpu").record
    assert result.texts == record["data"]["texts"] < 80 < record["data"]["texts_for_the_autoencoder"]


def test_bad_data_is_refused_and_leaves_no_cache(recipe, tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        train(recipe, tmp_path / "none.txt", tmp_path / "run", device="cpu")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="holds no text"):
        train(recipe, tmp_path / "empty.txt", tmp_path / "run", device="cpu")
    assert not list((tmp_path / "run" / "cache").iterdir())


def test_no_training_texts(recipe, tmp_path):
    (tmp_path / "one.txt").write_text("Only this.\n")
    with pytest.raises(DataError, match="gave no texts for training"):
        train(change(recipe, "data.valid_fraction", 0.999999999), tmp_path / "one.txt", tmp_path / "run", device="cpu")


def test_the_decoder_can_be_adapted_to_the_denoiser(trained, corpus, recipe):
    fit = dataclasses.replace(recipe.diffusion_training, ema=0.0)
    plain = TextDiffusion.load(trained, device="cpu")
    adapting = dataclasses.replace(recipe, adapt_decoder=True, adaptation_training=fit)
    assert train(adapting, corpus, trained, device="cpu").finished
    adapted = TextDiffusion.load(trained, device="cpu")
    assert adapted.record["adaptation"]["steps"] == 6
    texts = corpus.read_text().splitlines()[:4]
    assert torch.equal(plain.encode(texts), adapted.encode(texts))
    assert not torch.equal(plain.autoencoder.token_head.weight, adapted.autoencoder.token_head.weight)
    with pytest.raises(TrainingError, match="adaptation.max_time = 0.6, not 0.3"):
        train(dataclasses.replace(adapting, adaptation=AdaptationConfig(max_time=0.3)), corpus, trained, device="cpu")


def test_adaptation_needs_a_denoiser(trained, corpus, recipe):
    shutil.rmtree(trained / "diffusion")
    with pytest.raises(TrainingError, match="holds no training state"):
        train(dataclasses.replace(recipe, adapt_decoder=True), corpus, trained, "adaptation", device="cpu")


# --- other latents: none compressed, or fewer numbers of each


def uncompressed(recipe, decompressor_depth):
    autoencoder = dataclasses.replace(
        recipe.model.autoencoder, num_latents=32, compressor_depth=0, decompressor_depth=decompressor_depth, init="local"
    )
    return change(recipe, "model.autoencoder", autoencoder)


@pytest.mark.parametrize("decompressor_depth", [0, 1])
def test_latents_without_compression(corpus, recipe, tmp_path, decompressor_depth):
    recipe = uncompressed(recipe, decompressor_depth)
    recipe = dataclasses.replace(recipe, adapt_decoder=True, adaptation_training=recipe.autoencoder_training)
    assert train(recipe, corpus, tmp_path / "run", device="cpu").finished
    model = TextDiffusion.load(tmp_path / "run", device="cpu")
    texts = corpus.read_text().splitlines()
    latents = model.encode(texts)
    assert latents.shape == (80, 32, 32) and model.normaliser.mean.shape == (1, 32)
    assert 0.8 < latents.std() < 1.2
    assert len(model.sample(2, steps=2)) == 2
    accuracy = sum(row.token_accuracy for row in model.reconstruct(texts[:20])) / 20
    assert accuracy > (0.9 if decompressor_depth == 0 else 0.5)


def test_pca_of_an_autoencoder_that_is_there(trained, corpus, recipe, tmp_path):
    taken = dataclasses.replace(change(recipe, "model.normaliser.pca_width", 6), init_autoencoder=str(trained))
    assert train(taken, corpus, tmp_path / "pca", device="cpu").finished
    model = TextDiffusion.load(tmp_path / "pca", device="cpu")
    latents = model.encode(corpus.read_text().splitlines())
    assert latents.shape == (80, 4, 6) and model.denoiser.enter.in_features == 6
    assert latents.var(0).mean().item() == pytest.approx(1.0, abs=0.2)
    assert len(model.sample(2, steps=2)) == len(model.decode(latents[:2])) == 2
    with pytest.raises(TrainingError, match="pca_width = 6, not 5"):
        train(change(taken, "model.normaliser.pca_width", 5), corpus, tmp_path / "pca", device="cpu")
    with pytest.raises(ConfigError, match="pca_width is 33, more than the latents' width 32"):
        train(change(recipe, "model.normaliser.pca_width", 33), corpus, tmp_path / "none", device="cpu")


def test_a_denoiser_can_start_from_the_linear_guess(corpus, recipe, tmp_path):
    sizes = dataclasses.replace(recipe.model.denoiser, projections=True, linear_rank=16)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, denoiser=sizes))
    assert not train(recipe, corpus, tmp_path / "run", max_seconds=0, device="cpu").finished
    assert train(recipe, corpus, tmp_path / "run", device="cpu").finished
    model = TextDiffusion.load(tmp_path / "run", device="cpu")
    assert model.denoiser.linear.variances[0] > 1.5 * model.denoiser.linear.rest  # fitted, kept and loaded
    assert len(model.sample(2, steps=2)) == 2


def test_a_covariance_that_cannot_be_held_is_refused_before_training(corpus, recipe, tmp_path):
    sizes = dataclasses.replace(recipe.model.denoiser, projections=True, linear_rank=129)
    recipe = dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, denoiser=sizes))
    with pytest.raises(ConfigError, match="more than a text's 128 numbers"):
        train(recipe, corpus, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run" / "autoencoder" / "state.safetensors").exists()


# --- texts that answer sources


@pytest.fixture(scope="module")
def answering_run(paired_recipe, tmp_path_factory):
    """One whole conditional run: its folder, its result and its reports."""
    folder, reports = tmp_path_factory.mktemp("answering"), []
    result = train(paired_recipe, write_pairs(folder), folder / "run", report=reports.append, device="cpu")
    assert result.finished
    return folder / "run", result, reports


@pytest.fixture
def answering(answering_run, tmp_path):
    """A finished conditional run of its own for the test."""
    return Path(shutil.copytree(answering_run[0], tmp_path / "run"))


def test_pairs_become_a_model_that_answers(answering_run):
    directory, result, reports = answering_run
    model = TextDiffusion.load(directory, device="cpu")
    assert model.config.denoiser.source_depth == 1 and model.config.source.max_length == 12
    assert torch.equal(model.denoiser.source.activation_mean, model.autoencoder.activation_mean)
    assert len(model.sample(source=["Ann has 3 big cats at home", "Bo"], steps=2)) == 2
    assert len(model.sample(2, steps=2)) == 2
    stages = list(dict.fromkeys(report.stage for report in reports))
    assert [
        stage for stage in stages if "sources train" in stage or "train-sources" in stage or stage in stages[-2:]
    ] == ["tokenise sources train", "encode train-sources", "diffusion", "adaptation"]
    assert 60 < result.texts < 80 and result.sources_cut > 0 and result.left_out == 0


def test_the_record_of_pairs(answering_run):
    directory, result, _ = answering_run
    record = TextDiffusion.load(directory, device="cpu").record
    data = record["data"]
    assert data["task"] == record["recipe"]["data"]["task"] == "detoxification"
    assert data["sources"]["cut"] == result.sources_cut and 11 < data["sources"]["mean_tokens"] <= 12
    assert sum(data["lengths"]) == data["texts"] == result.texts
    mean = sum(length * count for length, count in enumerate(data["lengths"])) / data["texts"]
    assert mean == pytest.approx(data["mean_tokens"])


def test_a_conditional_run_stopped_anywhere_goes_on_to_the_same_losses(answering, paired_recipe, tmp_path):
    finished, pairs, calls = False, write_pairs(tmp_path), 0
    while not finished:
        count = 0

        def interrupt(report):
            nonlocal count
            count += 1
            if count == 5:
                signal.raise_signal(signal.SIGTERM)

        finished = train(paired_recipe, pairs, tmp_path / "parts", report=interrupt, device="cpu").finished
        calls += 1
    assert calls > 3 and losses(tmp_path / "parts", adapted=True) == losses(answering, adapted=True)
    whole, parts = (TextDiffusion.load(tmp_path / name, device="cpu") for name in ("run", "parts"))
    source = ["Tom has 1 big dog at home"] * 2
    assert whole.sample(source=source, steps=2) == parts.sample(source=source, steps=2)


def test_a_run_that_reads_the_latents_of_its_sources(pairs, paired_recipe, tmp_path):
    denoiser = dataclasses.replace(paired_recipe.model.denoiser, source_latents=True, linear_rank=8, projections=True)
    recipe = dataclasses.replace(paired_recipe, model=dataclasses.replace(paired_recipe.model, denoiser=denoiser))
    stages = []
    assert train(recipe, pairs, tmp_path / "run", report=lambda r: stages.append(r.stage), device="cpu").finished
    assert {"compress sources train", "compress sources valid"} <= set(stages)
    model = TextDiffusion.load(tmp_path / "run", device="cpu")
    assert model.denoiser.linear.answers.any() and model.denoiser.linear.left.min() > 0
    long = "Ann has 3 big cats at home and a dog and a bird and a fish and one more cat"
    assert len(model.sample(source=[long, "Bo"], steps=2, guidance=2.0)) == 2
    store = TextStore(tmp_path / "run" / "cache" / "train-sources")
    rows = open_rows(tmp_path / "run" / "latents" / "train-sources")
    source = model.tokenizer.detokenize(*(getattr(store.batch([0], torch.device("cpu")), of) for of in ("tokens", "forms")))
    found = model.normaliser.normalise(rows[:1].float())
    torch.testing.assert_close(found, model.encode(source), atol=0.1, rtol=0.02)  # of float16 activations
    losses = [record["loss"] for record in read_journal(tmp_path / "run" / "diffusion" / "journal.jsonl") if "loss" in record]
    fit = dataclasses.replace(recipe.diffusion_training, steps=2)
    out = distill(tmp_path / "run", tmp_path / "fast", DistillConfig(steps=8, fit=fit), device="cpu")
    assert out.finished and len(TextDiffusion.load(tmp_path / "fast", device="cpu").sample(source=["Bo"])) == 1
    assert losses and all(loss < 10 for loss in losses)


def test_sources_are_encoded_once_or_at_each_step(pairs, paired_recipe, answering, tmp_path):
    other = dataclasses.replace(paired_recipe, cache_activations=False)
    assert train(other, pairs, tmp_path / "other", device="cpu").finished
    assert not (tmp_path / "other" / "cache" / "train-sources-activations").exists()
    cached, encoded = (losses(folder)[-6:] for folder in (answering, tmp_path / "other"))
    for record, again in zip(cached, encoded, strict=True):  # float16 or not
        assert record["loss"] == pytest.approx(again["loss"], rel=0.02)


def test_blank_sides_are_left_out_and_counted(pairs, paired_recipe, tmp_path):
    with pairs.open("a") as file:
        file.write('\n{"source": " ", "targets": ["x"]}\n{"source": "y", "targets": []}\n')
    result = train(paired_recipe, pairs, tmp_path / "run", max_seconds=600, stage="autoencoder", device="cpu")
    assert result.left_out == 2


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.denoiser.source_depth", 0, "the texts answer sources, but model.denoiser.source_depth = 0"),
        ("model.source.max_length", 513, "model.source.max_length = 513, but tiny reads 512 tokens at most"),
        ("data.task", "stories", "source_depth = 1 reads sources, but the data is texts alone; give --task NAME"),
        ("data.task", "summarisation", "no field target or targets or summary"),
    ],
)
def test_sources_and_settings_that_do_not_fit(paired_recipe, tmp_path, path, value, message):
    file = tmp_path / "pairs.jsonl"
    file.write_text('{"source": "a", "answers": ["b"]}')
    with pytest.raises(TextcosmError, match=message) as caught:
        train(change(paired_recipe, path, value), file, tmp_path / "run", device="cpu")
    assert "\n" not in str(caught.value)


def test_other_sources_in_the_same_folder_are_named(answering, paired_recipe, tmp_path):
    pairs = write_pairs(tmp_path)
    with pytest.raises(TrainingError, match="max_length = 12, not 10"):
        train(change(paired_recipe, "model.source.max_length", 10), pairs, answering, device="cpu")


def test_settings_of_a_run_without_sources_are_as_before_there_were_any(trained):
    """Runs that were begun by an earlier version go on: their settings hold none of the later names."""
    settings = json.loads((trained / "diffusion" / "settings.json").read_text())
    assert settings["model"]["diffusion_objective"].keys() == {"self_condition_probability", "min_time"}
    assert settings["latents"]["texts"]["data_config"].keys() == {"text_field", "valid_fraction"}
    assert settings.keys() == {"latents", "model", "diffusion_training", "seed"}


def test_a_second_corpus_of_pairs_is_plain_texts(pairs, paired_recipe, tmp_path):
    extra = tmp_path / "extra.txt"
    extra.write_text("\n".join(f"The tree number {i} is green." for i in range(40)))
    recipe = dataclasses.replace(paired_recipe, autoencoder_data=str(extra))
    assert train(recipe, pairs, tmp_path / "run", device="cpu").finished
    data = TextDiffusion.load(tmp_path / "run", device="cpu").record["data"]
    assert sum(data["lengths"]) == data["texts"] < data["texts_for_the_autoencoder"]


@pytest.mark.slow
def test_answers_are_learned(tmp_path):
    """Five things, each with its own answer: after two hundred steps the model gives the right one."""
    answers = {"cat": "it is red", "dog": "it is old", "tree": "it is big", "car": "it is new", "book": "it is blue"}
    lines = [{"source": f"how is the {name} {i}", "target": text} for i in range(12) for name, text in answers.items()]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    recipe = preset("tiny").recipe
    recipe = change(change(recipe, "model.denoiser.source_depth", 1), "diffusion_training.steps", 200)
    recipe = change(recipe, "data", DataConfig(valid_fraction=0.1, source_field="source", target_field="target"))
    assert train(recipe, path, tmp_path / "run", device="cpu").finished
    model = TextDiffusion.load(tmp_path / "run", device="cpu")
    said = model.sample(source=[f"how is the {name} 7" for name in answers])
    assert sum(map(str.__eq__, said, answers.values())) >= 4, said
