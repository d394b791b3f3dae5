"""The stages: a step's loss depends on its number alone, and diffusion needs no encoder."""

import dataclasses

import pytest
import torch

from textcosm.diffusion.denoiser import Denoiser
from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.normaliser import Normaliser
from textcosm.text.backbone import open_backbone
from textcosm.text.tiny import TinyBackbone
from textcosm.training.cache import TextStore, write_texts
from textcosm.training.stages import AdaptationConfig, AdaptationStage, AutoencoderStage, DiffusionStage


@pytest.fixture
def store(tmp_path, corpus):
    texts = corpus.read_text().splitlines()[:20]
    list(write_texts(tmp_path / "texts", [texts], TinyBackbone(), 32, {}, lambda: False))
    return TextStore(tmp_path / "texts")


@pytest.fixture
def autoencoder_stage(store, recipe):
    backbone = open_backbone(recipe.model.backbone)
    torch.manual_seed(0)
    autoencoder = Autoencoder(recipe.model.autoencoder, backbone.width, backbone.vocab_size).eval()

    def stage():
        return AutoencoderStage(autoencoder, recipe.model, backbone, store, store, batch_size=8)

    return stage


def test_an_autoencoder_step_depends_on_its_number_alone(autoencoder_stage):
    one, other = autoencoder_stage(), autoencoder_stage()
    losses = [one.loss(step)["loss"].item() for step in range(5)]
    assert [other.loss(step)["loss"].item() for step in (4, 0, 2)] == [losses[4], losses[0], losses[2]]
    assert len(set(losses)) == 5


def test_an_epoch_sees_each_text_once_in_whole_batches(autoencoder_stage):
    stage = autoencoder_stage()
    for epoch in range(3):
        seen = [index for step in range(2 * epoch, 2 * epoch + 2) for index in stage.batches.indices(step)]
        assert len(seen) == len(set(seen)) == 16


def test_validation_is_a_share_and_needs_texts(autoencoder_stage):
    stage = autoencoder_stage()
    with torch.no_grad():
        figures = stage.validate()
    assert set(figures) == {"accuracy", "form_accuracy", "exact"}
    assert all(0 <= value <= 1 for value in figures.values())


def test_validation_counts_only_real_positions(autoencoder_stage, monkeypatch):
    stage = autoencoder_stage()
    monkeypatch.setattr(Autoencoder, "token_logits", lambda self, hidden: right(stage, hidden.shape))
    with torch.no_grad():
        figures = stage.validate()
    assert (figures["accuracy"], figures["exact"]) == (1.0, 1.0)


def right(stage, shape):
    batch = stage.valid.batch(list(range(shape[0])), stage.device)
    tokens = batch.tokens.masked_fill(~batch.mask, 0)
    return torch.nn.functional.one_hot(tokens, stage.module.token_head.out_features).float()


@pytest.fixture
def diffusion_stage(recipe):
    generator = torch.Generator().manual_seed(0)
    raw = torch.randn(20, 4, 32, generator=generator).half() * 3 + 1
    normaliser = Normaliser(4, 32)
    normaliser.fit([raw.float()])
    denoiser = Denoiser(recipe.model.denoiser, 32).eval()
    return lambda valid=raw: DiffusionStage(denoiser, recipe.model, normaliser, raw, valid, batch_size=8)


def test_a_diffusion_step_depends_on_its_number_alone(diffusion_stage):
    one, other = diffusion_stage(), diffusion_stage()
    losses = [one.loss(step)["loss"].item() for step in range(5)]
    assert [other.loss(step)["loss"].item() for step in (4, 0, 2)] == [losses[4], losses[0], losses[2]]


def test_a_diffusion_epoch_sees_each_text_once(diffusion_stage):
    stage = diffusion_stage()
    seen = torch.cat([stage._indices(step) for step in (2, 3)])
    assert len(seen.unique()) == 16


def test_diffusion_validates_with_the_same_noise_each_time(diffusion_stage):
    stage = diffusion_stage()
    with torch.no_grad():
        first = stage.validate()
        stage.loss(3)
        assert stage.validate() == first and first["loss"] > 0
        assert diffusion_stage(torch.zeros(0, 4, 32).half()).validate() == {}


def test_few_texts_are_one_batch(recipe):
    raw = torch.randn(3, 4, 32).half()
    stage = DiffusionStage(Denoiser(recipe.model.denoiser, 32), recipe.model, Normaliser(4, 32), raw, raw, batch_size=8)
    assert stage.texts_per_step == 3 and len(stage._indices(7)) == 3


@pytest.fixture
def adaptation_stage(recipe, store):
    backbone = TinyBackbone()
    torch.manual_seed(0)
    autoencoder = Autoencoder(recipe.model.autoencoder, backbone.width, backbone.vocab_size)
    denoiser = Denoiser(dataclasses.replace(recipe.model.denoiser, projections=True), 32).eval()
    raw = torch.randn(len(store), 4, 32).half()

    def stage(**changes):
        return AdaptationStage(
            autoencoder, denoiser, Normaliser(4, 32), recipe.model, AdaptationConfig(**changes), backbone, store, store,
            raw, raw, batch_size=8,
        )  # fmt: skip

    return stage


def test_adaptation_trains_the_way_back_and_nothing_else(adaptation_stage):
    stage = adaptation_stage()
    stage.loss(0)["loss"].backward()
    touched = {name.split(".")[0] for name, p in stage.module.named_parameters() if p.grad is not None}
    assert {"decompressor", "token_head", "query_positions", "mask_feed_forward"} <= touched
    assert not touched & {"compressor", "token_positions", "slots", "slots_norm", "latents_norm"}
    assert all(p.grad is None for p in stage.denoiser.parameters())


def test_an_adaptation_step_depends_on_its_number_alone(adaptation_stage):
    one, other = adaptation_stage(), adaptation_stage()
    one.module.eval()
    losses = [one.loss(step)["loss"].item() for step in range(3)]
    assert [other.loss(step)["loss"].item() for step in (2, 0)] == [losses[2], losses[0]]


def test_the_decoder_reads_guesses_but_for_the_clean_share(adaptation_stage, monkeypatch):
    """This denoiser says 0 to everything, so a guess is a text without latents."""
    seen = []
    decompress = Autoencoder.decompress
    monkeypatch.setattr(Autoencoder, "decompress", lambda *given: [seen.append(given[1]), decompress(*given)][1])
    adaptation_stage(clean=0.25).loss(0)
    assert int((seen[0] == 0).all(dim=(1, 2)).sum()) == 6
    assert set(adaptation_stage().validate()) == {"accuracy", "accuracy_half_noise", "accuracy_full_noise"}


@pytest.mark.parametrize("change", [{"max_time": 0.0}, {"max_time": 1.5}, {"clean": 1.0}, {"clean": -0.1}])
def test_adaptation_settings_outside_their_range_are_named(change):
    with pytest.raises(ConfigError, match=f"adaptation.{next(iter(change))} is"):
        AdaptationConfig(**change)


def test_adaptation_ends_above_where_the_denoiser_begins(recipe):
    with pytest.raises(ConfigError, match="adaptation.max_time is 1e-06, not above .* 1e-05; raise it"):
        dataclasses.replace(recipe, adapt_decoder=True, adaptation=AdaptationConfig(max_time=1e-6))
