"""From a file to a model: every stage runs, stops, goes on, and refuses what does not fit."""

import dataclasses
import shutil
import signal
from pathlib import Path

import pytest
import torch

from textcosm.errors import BackboneError, ConfigError, DataError, TrainingError
from textcosm.pipeline import TextDiffusion
from textcosm.text.tiny import TinyBackbone
from textcosm.training.journal import read_journal
from textcosm.training.stages import AdaptationConfig
from textcosm.training.train import train


@pytest.fixture
def trained(finished_run, tmp_path):
    """A finished run of its own for the test."""
    return Path(shutil.copytree(finished_run[0], tmp_path / "run"))


def losses(directory):
    timing = {"texts_per_second", "seconds"}
    stages = ("autoencoder", "diffusion")
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
