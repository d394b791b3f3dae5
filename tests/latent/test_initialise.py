"""The local initialisation is a working code before any training, where the published one is noise."""

import pytest
import torch

from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import Autoencoder, AutoencoderConfig
from textcosm.latent.initialise import initialise_locally

WIDTH, LENGTH, SLOTS, VOCAB = 48, 24, 8, 40
SIZES = dict(
    num_latents=SLOTS, max_length=LENGTH, compressor_depth=2, decompressor_depth=2, heads=6, head_width=8, ff_mult=2,
    dropout=0.0,
)  # fmt: skip


def corpus(texts: int = 300) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Activations that are embeddings of 8 directions, seen through noise: an easy code, if it is routed."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(VOCAB, 8, generator=generator) @ torch.randn(8, WIDTH, generator=generator)
    tokens = torch.randint(VOCAB, (texts, LENGTH), generator=generator)
    mask = torch.arange(LENGTH)[None] < torch.randint(6, LENGTH + 1, (texts, 1), generator=generator)
    activations = embeddings[tokens] + 0.1 * torch.randn(texts, LENGTH, WIDTH, generator=generator)
    return activations, tokens, mask, embeddings


def share_of_tokens_back(init: str, **sizes) -> float:
    torch.manual_seed(0)
    activations, tokens, mask, embeddings = corpus()
    model = Autoencoder(AutoencoderConfig(**SIZES | sizes, init=init), WIDTH, VOCAB).eval()
    real = activations[mask]
    model.set_statistics(real.mean(0), real.std(0), torch.zeros(WIDTH))
    standard = model.standardise(activations)
    if init == "local":
        initialise_locally(model, standard, mask, tokens, embeddings, torch.Generator().manual_seed(0))
    with torch.no_grad():
        hidden = model.decompress(model.compress(standard, mask))
    return (model.token_logits(hidden).argmax(-1) == tokens)[mask].float().mean().item()


def test_it_reconstructs_before_training_and_the_published_start_does_not():
    assert share_of_tokens_back("local") > 0.7
    assert share_of_tokens_back("published") < 0.15


def test_without_compression_it_is_a_probe_and_layers_find_their_own_place():
    plain = dict(num_latents=LENGTH, compressor_depth=0)
    assert share_of_tokens_back("local", **plain, decompressor_depth=0) > 0.95
    assert share_of_tokens_back("local", **plain) > 0.7
    assert share_of_tokens_back("local", **plain, heads=7) > 0.7  # heads of 56 numbers together, for 48 of a token


def test_it_needs_one_width_and_even_heads():
    activations, tokens, mask, embeddings = corpus(20)
    for sizes, part in ((SIZES | {"latent_width": 12}, "latent_width 12"), (SIZES | {"head_width": 7}, "is 7")):
        model = Autoencoder(AutoencoderConfig(**sizes, init="local"), WIDTH, VOCAB)
        with pytest.raises(ConfigError, match=part):
            initialise_locally(model, activations, mask, tokens, embeddings, torch.Generator())
