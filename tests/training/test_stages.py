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
from textcosm.training.stages import AdaptationConfig, AdaptationStage, AutoencoderStage, DiffusionStage, Sources


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


# --- texts that answer sources


@pytest.fixture
def answering_stage(recipe, store):
    """Twenty texts, their own sources; every memory that the loss is given is kept."""
    config = dataclasses.replace(recipe.model.denoiser, source_depth=1)
    torch.manual_seed(0)
    denoiser = Denoiser(config, 32, source_width=32).eval()
    raw = torch.randn(20, 4, 32, generator=torch.Generator().manual_seed(0)).half()
    sources = Sources(store, TinyBackbone())
    return lambda: DiffusionStage(
        denoiser, recipe.model, Normaliser(4, 32), raw, raw, batch_size=8, train_sources=sources, valid_sources=sources
    )


def test_sources_are_read_beside_a_null_and_padded_to_few_lengths(store, answering_stage):
    denoiser = answering_stage().module
    plain, padded = Sources(store, TinyBackbone()), Sources(store, TinyBackbone(), multiple=8, limit=32)
    memory = plain.memory(denoiser, [3, 5], torch.device("cpu"))
    assert memory.mask.sum(1).tolist() == (1 + store.lengths[[3, 5]]).tolist()
    assert padded.memory(denoiser, [3, 5], torch.device("cpu")).mask.shape[1] % 8 == 1
    batch = store.batch([3, 5], torch.device("cpu"))
    wanted = denoiser.encode_source(TinyBackbone().encode(batch.tokens, batch.mask), batch.mask)
    assert torch.equal(memory.keys[0], wanted.keys[0])


def test_a_diffusion_step_reads_the_sources_of_its_texts(answering_stage, monkeypatch):
    stage, seen = answering_stage(), []

    def keep(denoiser, schedule, latents, config, generator, memory):
        seen.append((latents, memory))
        return latents.sum()

    monkeypatch.setattr("textcosm.training.stages.diffusion_loss", keep)
    stage.loss(1)
    stage.validate()
    rows = stage._indices(1)
    wanted = stage.train_sources.memory(stage.module, rows, stage.device)
    assert torch.equal(seen[0][0], stage.train[rows].float()) and torch.equal(seen[0][1].values[1], wanted.values[1])
    assert [len(latents) for latents, _ in seen] == [8, 8, 8, 4] and all(memory is not None for _, memory in seen)


def test_a_batch_of_sources_is_in_mixed_order_and_the_same_each_time(answering_stage):
    stage, other = answering_stage(), answering_stage()
    rows = [stage._indices(step) for step in range(4)]
    assert all(torch.equal(other._indices(step), rows[step]) for step in (3, 0, 2))
    lengths = stage.train_sources.store.lengths
    assert any(not torch.equal(lengths[part], lengths[part].sort().values) for part in rows)
    assert len(torch.cat(rows[:2]).unique()) == 16
    losses = [stage.loss(step)["loss"].item() for step in range(3)]
    assert [other.loss(step)["loss"].item() for step in (2, 0)] == [losses[2], losses[0]]


def test_the_source_encoder_learns(answering_stage):
    stage = answering_stage()
    for parameter in stage.module.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    stage.loss(0)["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in stage.module.source.parameters())


def test_adaptation_guesses_from_the_source(recipe, store):
    backbone = TinyBackbone()
    torch.manual_seed(0)
    autoencoder = Autoencoder(recipe.model.autoencoder, backbone.width, backbone.vocab_size)
    sizes = dataclasses.replace(recipe.model.denoiser, projections=True, source_depth=1)
    denoiser, raw, sources = Denoiser(sizes, 32, 32).eval(), torch.randn(len(store), 4, 32).half(), Sources(store, backbone)
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.3)

    def loss(*given):
        stage = AdaptationStage(
            autoencoder.eval(), denoiser, Normaliser(4, 32), recipe.model, AdaptationConfig(), backbone, store, store,
            raw, raw, 8, 0, *given,
        )  # fmt: skip
        return stage.loss(0)["loss"].item(), stage.validate()

    assert loss(sources, sources) == loss(sources, sources) != loss()


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
