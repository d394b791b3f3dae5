"""Guides by gradient: how far and where they go, and that a model follows one."""

import pytest
import torch

from textcosm.control.gradient import ByGradient, ascend, persuade
from textcosm.diffusion.guidance import Guide
from textcosm.errors import ConfigError
from textcosm.testing import tiny_model


def first(latents):
    return 7 * latents[:, 0, 0]


def test_a_step_is_as_long_as_asked_however_steep_the_score():
    latents = torch.zeros(2, 3, 4)
    moved = ascend(first, latents, torch.tensor([1.0, 0.5]))
    assert moved[:, 0, 0].tolist() == [2.0, 1.0] and moved.abs().sum() == 3  # the norm of a normalised latent is sqrt(4)
    torch.testing.assert_close(ascend(lambda x: 0 * first(x), latents, 1.0), latents)


def test_certainty_is_left_alone():
    latents = torch.zeros(2, 1, 4)
    moved = persuade(lambda x: 0.1 * x[:, 0, 0] + torch.tensor([-0.5, 0.0]), latents, 0.1, 3)
    assert moved[0, 0, 0] > 0.2 and not moved[1].any()


def test_scale_and_sign_and_time():
    latents = torch.zeros(1, 3, 4)
    assert ByGradient(first, 2.0)(latents, 0.5)[0, 0, 0] == 2
    assert ByGradient(first, -2.0)(latents, 0.5)[0, 0, 0] == -2
    assert not ByGradient(first, 2.0)(latents, 1.0).any()
    with pytest.raises(ConfigError, match="scale is nan; give a number"):
        ByGradient(first, float("nan"))


def test_a_model_follows_its_guide():
    model, guide = tiny_model(), ByGradient(lambda x: x.mean((1, 2)), 20.0)
    assert isinstance(guide, Guide)
    points = [list(model._walk(slice(0, 2), {"guides": guides})([1, 2]))[-1] for guides in ((), (guide,))]
    assert (points[1].clean.mean((1, 2)) > points[0].clean.mean((1, 2)) + 1).all()
