"""The autoencoder's loss against its parts written out, and the ladder of perturbations and terms."""

import pytest
import torch
import torch.nn.functional as F

from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import Autoencoder, AutoencoderConfig
from textcosm.latent.objective import AutoencoderObjectiveConfig, autoencoder_loss
from textcosm.latent.perturb import PerturbationConfig

OFF = PerturbationConfig(token_drop=0.0, activation_keep=1.0, latent_drop=0.0)
WHOLE = AutoencoderObjectiveConfig(full_length_share=1.0)


def model() -> Autoencoder:
    torch.manual_seed(0)
    config = AutoencoderConfig(
        num_latents=4, max_length=12, compressor_depth=1, decompressor_depth=1, heads=2, head_width=8, dropout=0.0
    )
    return Autoencoder(config, 16, 50)


def batch() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    mask = torch.arange(10)[None] < torch.tensor([[10], [6], [3]])
    return torch.randn(3, 10, 16), torch.randint(50, (3, 10)), torch.randint(6, (3, 10)), mask


def losses(objective=WHOLE, perturbation=OFF, seed=0, data=None):
    return autoencoder_loss(model(), *(data or batch()), perturbation, objective, torch.Generator().manual_seed(seed))


def test_the_loss_is_cross_entropy_and_aligned_mse_over_real_positions():
    activations, tokens, forms, mask = batch()
    autoencoder = model()
    hidden = autoencoder.decompress(autoencoder.compress(activations, mask))[:, :10][mask]
    cross_entropy = F.cross_entropy(autoencoder.token_logits(hidden[None])[0], tokens[mask])
    alignment = F.mse_loss(hidden, activations[mask])
    form = F.cross_entropy(autoencoder.form_head(hidden), forms[mask])
    found = losses(AutoencoderObjectiveConfig(alignment=2.0, form=0.5, full_length_share=1.0))
    torch.testing.assert_close(found.cross_entropy, cross_entropy)
    torch.testing.assert_close(found.alignment, alignment)
    torch.testing.assert_close(found.total, cross_entropy + 2 * alignment + 0.5 * form)


def test_padding_costs_nothing():
    activations, tokens, forms, mask = batch()
    other = (
        torch.where(mask[..., None], activations, torch.full_like(activations, 7.0)),
        torch.where(mask, tokens, torch.zeros_like(tokens)),
        torch.where(mask, forms, torch.zeros_like(forms)),
        mask,
    )
    torch.testing.assert_close(losses(data=other).total, losses().total)


def test_every_rung_of_the_ladder_is_a_different_loss():
    rungs = [
        losses(AutoencoderObjectiveConfig(alignment=0.0)),
        losses(),
        losses(perturbation=PerturbationConfig(latent_drop=0.0)),
        losses(perturbation=PerturbationConfig()),
    ]
    assert len({round(rung.total.item(), 6) for rung in rungs}) == 4
    assert all(torch.isfinite(rung.total) for rung in rungs)


def test_a_share_of_the_positions_and_weighted_negatives_estimate_the_whole():
    whole = losses().cross_entropy.item()

    def mean(objective):
        return sum(losses(objective, seed=seed).cross_entropy.item() for seed in range(60)) / 60

    part = AutoencoderObjectiveConfig(head_fraction=0.5, full_length_share=1.0)
    sampled = AutoencoderObjectiveConfig(head_negatives=20, full_length_share=1.0)
    assert mean(part) == pytest.approx(whole, rel=0.05)
    assert mean(sampled) == pytest.approx(whole, rel=0.02)


def test_the_same_generator_gives_the_same_loss():
    first, again, other = (losses(perturbation=PerturbationConfig(), seed=s).total for s in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    "setting", [dict(alignment=-1.0), dict(head_fraction=0.0), dict(head_negatives=-1), dict(full_length_share=2.0)]
)
def test_bad_settings_are_named(setting):
    with pytest.raises(ConfigError, match=f"autoencoder_objective.{next(iter(setting))} is"):
        AutoencoderObjectiveConfig(**setting)
