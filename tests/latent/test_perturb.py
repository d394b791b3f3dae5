"""Each perturbation does what its number says, to the part of the batch that it is meant for, and can be off."""

import pytest
import torch

from textcosm.errors import ConfigError
from textcosm.latent.perturb import PerturbationConfig, drop_latents, perturb_activations

OFF = PerturbationConfig(token_drop=0.0, activation_keep=1.0, latent_drop=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_all_off_is_the_identity():
    activations, mask = torch.randn(4, 6, 8), torch.ones(4, 6, dtype=torch.bool)
    noisy, seen = perturb_activations(activations, mask, OFF, seeded())
    assert torch.equal(noisy, activations) and torch.equal(seen, mask)
    assert torch.equal(drop_latents(activations, OFF, seeded()), activations)


def test_one_half_loses_tokens_and_the_other_gets_noise():
    activations, mask = torch.randn(400, 50, 16), torch.ones(400, 50, dtype=torch.bool)
    noisy, seen = perturb_activations(activations, mask, PerturbationConfig(), seeded())
    dropped = ~seen.all(1)
    assert dropped.sum() == 200
    assert torch.equal(noisy[dropped], activations[dropped])
    assert (~seen[dropped]).float().mean().item() == pytest.approx(0.3, abs=0.02)
    blended, clean = noisy[~dropped], activations[~dropped]
    assert blended.var().item() == pytest.approx(1.0, abs=0.02)  # variance is kept
    assert (blended * clean).mean().item() == pytest.approx(0.7, abs=0.02)


def test_no_text_loses_all_tokens_and_padding_stays_padding():
    mask = torch.arange(3)[None] < torch.tensor([[1], [2], [3], [1]])
    harsh = PerturbationConfig(token_drop=0.999)
    _, seen = perturb_activations(torch.randn(4, 3, 8), mask, harsh, seeded())
    assert seen.any(1).all() and not (seen & ~mask).any()


def test_dropped_latent_elements_are_zero_and_the_others_keep_their_size():
    latents = torch.randn(100, 16, 32)
    kept = drop_latents(latents, PerturbationConfig(latent_drop=0.4), seeded())
    zero = kept == 0
    assert zero.float().mean().item() == pytest.approx(0.4, abs=0.01)
    assert torch.equal(kept[~zero], latents[~zero])


def test_the_generator_decides():
    args = (torch.randn(8, 6, 8), torch.ones(8, 6, dtype=torch.bool), PerturbationConfig())
    first, again, other = (perturb_activations(*args, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("setting", [dict(token_drop=1.0), dict(latent_drop=-0.1), dict(activation_keep=0.0)])
def test_strengths_out_of_range_are_named(setting):
    with pytest.raises(ConfigError, match=f"perturbation.{next(iter(setting))} is"):
        PerturbationConfig(**setting)
