"""The autoencoder's sizes, its statistics, and what it refuses."""

import pytest
import torch

from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import Autoencoder, AutoencoderConfig, slot_places

SMALL = dict(compressor_depth=1, decompressor_depth=1, heads=2, head_width=8, ff_mult=2, dropout=0.0)


@pytest.mark.parametrize("slots, length", [(1, 4), (8, 24), (24, 24), (16, 512)])
@pytest.mark.parametrize("width, latent_width", [(0, 0), (0, 12), (24, 0), (24, 40)])
def test_any_number_and_width_of_latents_and_any_length(slots, length, width, latent_width):
    config = AutoencoderConfig(num_latents=slots, max_length=length, width=width, latent_width=latent_width, **SMALL)
    model = Autoencoder(config, 16, 50)
    latents = model.compress(torch.randn(2, length, 16), torch.ones(2, length, dtype=torch.bool))
    assert latents.shape == (2, slots, latent_width or width or 16)
    hidden = model.decompress(latents)
    assert hidden.shape == (2, length, 16)
    assert model.token_logits(hidden).shape == (2, length, 50)
    assert model.form_logits(hidden, torch.randint(50, (2, length))).shape == (2, length, 6)


def test_padding_does_not_reach_the_latents():
    model = Autoencoder(AutoencoderConfig(num_latents=4, max_length=12, **SMALL), 16, 50)
    activations, mask = torch.randn(1, 12, 16), torch.arange(12)[None] < 7
    changed = torch.where(mask[..., None], activations, torch.full_like(activations, 5.0))
    torch.testing.assert_close(model.compress(activations, mask), model.compress(changed, mask))
    short = model.compress(activations[:, :7], mask[:, :7])
    torch.testing.assert_close(model.compress(activations, mask), short)


def test_statistics_standardise_and_travel_with_the_weights():
    config = AutoencoderConfig(num_latents=4, max_length=12, **SMALL)
    model = Autoencoder(config, 16, 50)
    activations = 3 + 2 * torch.randn(64, 12, 16)
    model.set_statistics(activations.mean((0, 1)), activations.std((0, 1)), torch.ones(16))
    standard = model.standardise(activations)
    torch.testing.assert_close(standard.mean((0, 1)), torch.zeros(16), atol=1e-4, rtol=0)
    torch.testing.assert_close(standard.std((0, 1)), torch.ones(16), atol=1e-4, rtol=0)
    other = Autoencoder(config, 16, 50)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.standardise(activations), standard)


def test_latents_are_normed_and_the_published_size_is_the_default():
    model = Autoencoder(AutoencoderConfig(num_latents=4, max_length=12, **SMALL), 16, 50)
    latents = model.compress(torch.randn(3, 9, 16), torch.ones(3, 9, dtype=torch.bool))
    torch.testing.assert_close(latents.square().mean(-1), torch.ones(3, 4), atol=1e-3, rtol=0)
    published = AutoencoderConfig()
    assert (published.num_latents, published.max_length, published.heads * published.head_width) == (16, 128, 768)
    assert (published.compressor_depth, published.decompressor_depth, published.dropout) == (12, 12, 0.1)


def uncompressed(decompressor_depth: int, **sizes) -> Autoencoder:
    sizes = SMALL | {"compressor_depth": 0, "decompressor_depth": decompressor_depth} | sizes
    return Autoencoder(AutoencoderConfig(num_latents=12, max_length=12, **sizes), 16, 50)


def test_without_a_compressor_latents_are_the_activations_and_zeros_after_the_end():
    model = uncompressed(0)
    activations, mask = torch.randn(2, 9, 16), torch.arange(9) < torch.tensor([[9], [4]])
    latents = model.compress(activations, mask)
    assert latents.shape == (2, 12, 16) and model.latent_width == 16
    assert torch.equal(latents[0, :9], activations[0]) and torch.equal(latents[1, :4], activations[1, :4])
    assert not latents[0, 9:].any() and not latents[1, 4:].any()
    assert torch.equal(model.decompress(latents), latents) and torch.equal(model.decompress(latents, 9), latents[:, :9])
    parts = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert parts == {"token_head", "form_head"}


def test_uncompressed_latents_can_be_read_by_layers_of_another_width():
    model = uncompressed(1, width=24)
    latents = model.compress(torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool))
    assert latents.shape == (2, 12, 16)
    assert model.decompress(latents).shape == (2, 12, 16) and model.decompress(latents, 5).shape == (2, 5, 16)
    with pytest.raises(ConfigError, match="latent_width is 8, but without a compressor .* the backbone, 16"):
        uncompressed(0, latent_width=8)


def test_a_compressor_can_be_frozen_or_absent():
    model = Autoencoder(AutoencoderConfig(num_latents=4, max_length=12, **SMALL), 16, 50)
    for autoencoder in (model, uncompressed(1)):
        autoencoder.freeze_compressor()
    trained = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {"query_positions", "mask_feed_forward", "decompressor", "token_head", "form_head"}


def test_slots_lie_evenly_along_the_text():
    assert slot_places(4, 20).tolist() == [2, 7, 12, 17]
    assert slot_places(5, 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "setting, part",
    [
        (dict(num_latents=0), "num_latents is 0"),
        (dict(max_length=513), "max_length is 513; give 4 to 512"),
        (dict(num_latents=40, max_length=20), "num_latents is 40, more than max_length 20"),
        (dict(dropout=1.0), "dropout is 1.0"),
        (dict(latent_width=-1), "latent_width is -1"),
        (dict(compressor_depth=-1), "compressor_depth is -1; give 0"),
        (dict(compressor_depth=0), "num_latents must be max_length 128, not 16"),
        (dict(decompressor_depth=0), "decompressor_depth is 0, .* but compressor_depth is 12"),
    ],
)
def test_bad_sizes_are_named(setting, part):
    with pytest.raises(ConfigError, match=part):
        AutoencoderConfig(**setting)


def test_a_text_beyond_the_length_is_refused():
    model = Autoencoder(AutoencoderConfig(num_latents=4, max_length=12, **SMALL), 16, 50)
    with pytest.raises(ConfigError, match="has 13 tokens, the autoencoder takes 12"):
        model.compress(torch.randn(1, 13, 16), torch.ones(1, 13, dtype=torch.bool))


@pytest.mark.parametrize("texts", [1, 40])
def test_words_are_scored_as_far_as_a_text_goes(texts):
    """40 texts of 12 positions are scored in two goes; a token that is no word is never chosen."""
    model = Autoencoder(AutoencoderConfig(num_latents=4, max_length=12, **SMALL), 16, 10)
    torch.nn.init.normal_(model.token_head.weight)
    words, end = model.words(torch.tensor([1, 2, 3, 5, 8])), 2
    hidden = torch.randn(texts, 12, 16)
    hidden[0, 5] = 100 * words.head[1]
    whole = words.tokens[(hidden @ words.head.T).argmax(-1)]
    ended = (whole == end).cumsum(1) > 0
    assert ended.any()
    scores, tokens = words.likeliest(hidden, end)
    assert torch.equal(tokens[..., 0].where(~ended, end), whole.where(~ended, end)) and tokens.shape[-1] == 1
    going = ended.cumsum(1) < 1
    wanted = (hidden @ words.head.T).topk(3, -1)
    scores, tokens = words.likeliest(hidden, end, 3)
    assert torch.allclose(scores[going], wanted.values[going], atol=1e-4)
    assert torch.equal(tokens[going], words.tokens[wanted.indices][going])
    assert words.likeliest(hidden, end, 10**6)[1].shape[-1] == len(words.tokens)
