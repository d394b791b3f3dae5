"""Latent statistics per slot and feature, of all slots, of principal components, and the way back."""

import pytest
import torch

from textcosm.errors import ConfigError
from textcosm.latent.normaliser import Normaliser, NormaliserConfig


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


def correlated(texts: int = 2000) -> torch.Tensor:
    """Latents of two slots of five features, each slot with two strong directions of its own."""
    generator = torch.Generator().manual_seed(0)
    strong = torch.randn(texts, 2, 2, generator=generator) @ torch.randn(2, 2, 5, generator=generator)[None, 0]
    return torch.tensor([1.0, -2.0])[:, None] + 3 * strong + 0.1 * torch.randn(texts, 2, 5, generator=generator)


def test_shared_statistics_are_one_mean_and_deviation_for_all_slots():
    latents = torch.randn(500, 3, 5) * (torch.rand(5) + 0.5) + torch.randn(5)
    latents[20:, 2] = 0.0  # a late position that few texts reach
    normaliser = Normaliser(3, 5, shared=True)
    normaliser.fit(latents.split(100))
    flat = latents.flatten(0, 1)
    torch.testing.assert_close(normaliser.mean, flat.mean(0, keepdim=True), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(normaliser.std, flat.std(0, keepdim=True, correction=0), atol=1e-5, rtol=1e-5)
    assert normaliser.shape == (3, 5)
    torch.testing.assert_close(normaliser.denormalise(normaliser.normalise(latents)), latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_pca_keeps_the_leading_directions_at_unit_variance(shared):
    latents = correlated()
    normaliser = Normaliser(2, 5, NormaliserConfig(pca_width=2), shared=shared)
    normaliser.fit(latents.split(300))
    kept = normaliser.normalise(latents)
    assert kept.shape == (2000, 2, 2) and normaliser.shape == (2, 2)
    flat = kept.reshape(2000, -1, 2) if not shared else kept.reshape(-1, 1, 2)
    for row in flat.unbind(1):
        torch.testing.assert_close(row.mean(0), torch.zeros(2), atol=1e-3, rtol=0)
        torch.testing.assert_close(row.T.cov(correction=0), torch.eye(2), atol=2e-3, rtol=0)


def test_pca_agrees_with_scikit_learn_and_loses_only_the_noise():
    decomposition = pytest.importorskip("sklearn.decomposition")
    latents = correlated()
    normaliser = Normaliser(2, 5, NormaliserConfig(pca_width=2))
    normaliser.fit([latents])
    restored = normaliser.denormalise(normaliser.normalise(latents))
    for slot in range(2):
        reference = decomposition.PCA(2).fit(latents[:, slot].double().numpy())
        wanted = torch.from_numpy(reference.inverse_transform(reference.transform(latents[:, slot].double().numpy())))
        torch.testing.assert_close(restored[:, slot].double(), wanted, atol=1e-4, rtol=1e-4)
    assert (restored - latents).std() < 0.15


def test_a_whole_pca_loses_nothing():
    latents = correlated()
    normaliser = Normaliser(2, 5, NormaliserConfig(pca_width=5))
    normaliser.fit([latents])
    torch.testing.assert_close(normaliser.denormalise(normaliser.normalise(latents)), latents, atol=1e-4, rtol=1e-4)


def test_pca_travels_with_the_state_and_plain_statistics_hold_nothing_of_it():
    fitted, other = (Normaliser(2, 5, NormaliserConfig(pca_width=3)) for _ in range(2))
    fitted.fit([correlated(50)])
    other.load_state_dict(fitted.state_dict())
    latents = correlated(5)
    assert torch.equal(other.normalise(latents), fitted.normalise(latents))
    assert set(Normaliser(2, 5).state_dict()) == {"mean", "std"}


def test_bad_widths_are_named():
    with pytest.raises(ConfigError, match="normaliser.pca_width is -1"):
        NormaliserConfig(pca_width=-1)
    with pytest.raises(ConfigError, match="pca_width is 6, more than the latents' width 5; lower it"):
        Normaliser(2, 5, NormaliserConfig(pca_width=6))
