"""Latent statistics per slot and feature, and the way back."""

import pytest
import torch

from textcosm.errors import ConfigError
from textcosm.latent.normaliser import Normaliser


def test_statistics_are_per_slot_and_feature_and_whatever_the_batches():
    scale, shift = torch.rand(3, 5) + 0.5, torch.randn(3, 5)
    latents = torch.randn(1000, 3, 5) * scale + shift
    whole, parts = Normaliser(3, 5), Normaliser(3, 5)
    whole.fit([latents])
    parts.fit(latents.split(7))
    torch.testing.assert_close(whole.mean, parts.mean)
    torch.testing.assert_close(whole.mean, latents.mean(0), atol=1e-5, rtol=1e-5)
    normalised = whole.normalise(latents)
    torch.testing.assert_close(normalised.mean(0), torch.zeros(3, 5), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.var(0, correction=0), torch.ones(3, 5), atol=1e-3, rtol=0)
    torch.testing.assert_close(whole.denormalise(normalised), latents, atol=1e-5, rtol=1e-5)


def test_a_dead_feature_meets_the_variance_floor():
    normaliser = Normaliser(1, 2)
    normaliser.fit([torch.tensor([[[1.0, 0.0]], [[1.0, 4.0]]])])
    assert normaliser.std[0, 0].item() == pytest.approx(1e-2)
    assert normaliser.normalise(torch.ones(1, 1, 2))[0, 0, 0].item() == 0


def test_one_text_gives_no_statistics():
    with pytest.raises(ConfigError, match="need 2 texts or more, got 1"):
        Normaliser(2, 3).fit([torch.randn(1, 2, 3)])
