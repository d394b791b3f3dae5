"""Of several candidates, the one that the denoiser knows best."""

import pytest
import torch

from textcosm.control.best import check_best, denoising_error, least
from textcosm.diffusion.schedule import TanSchedule
from textcosm.errors import ConfigError

SCHEDULE = TanSchedule(d=5.0)


def test_the_error_is_a_share_of_the_latents():
    latents = torch.randn(5, 4, 8)
    assert torch.allclose(denoising_error(lambda noisy, time: torch.zeros_like(noisy), SCHEDULE, latents), torch.ones(5))
    assert denoising_error(lambda noisy, time: latents, SCHEDULE, latents).abs().max() == 0
    halves = denoising_error(lambda noisy, time: 0.5 * latents, SCHEDULE, 3 * latents)
    assert torch.allclose(halves, torch.full((5,), (2.5 / 3) ** 2))


def test_the_guess_is_made_from_noise_that_all_texts_share():
    latents = torch.randn(1, 4, 8).expand(3, 4, 8)
    seen = []

    def denoise(noisy, time):
        seen.append((noisy, time))
        return noisy

    errors = denoising_error(denoise, SCHEDULE, latents, 0.3)
    assert len(set(errors.tolist())) == 1 and errors[0] > 0 and len(seen) == 4
    assert torch.equal(errors, denoising_error(denoise, SCHEDULE, latents, 0.3))
    assert len({float(noisy.sum()) for noisy, _ in seen}) > 1 and all((time == 0.3).all() for _, time in seen)
    left = (seen[0][0] - SCHEDULE.alpha(0.3) * latents) / SCHEDULE.sigma(0.3)
    assert torch.allclose(left[0], left[1]) and 0.5 < left[0].std() < 1.5


def test_a_denoiser_of_one_kind_of_texts_finds_them_better_than_others():
    kind = torch.randn(1, 4, 8)
    known, strange = kind + 0.1 * torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    errors = denoising_error(lambda noisy, time: kind.expand_as(noisy), SCHEDULE, torch.cat([known, strange]))
    assert errors[:3].max() < errors[3:].min()


def test_the_least_of_each_row_and_of_equals_the_first():
    assert least([["a", "b"], ["c", "d"], ["e", "f"]], [[3.0, 1.0], [2.0, 1.0], [2.0, 0.5]]) == ["c", "f"]


def test_what_cannot_be_chosen():
    check_best(1, 5)
    check_best(5, 1)
    with pytest.raises(ConfigError, match="best is 0; choose among at least 1 candidate"):
        check_best(0)
    with pytest.raises(ConfigError, match="best = 3 and mbr = 2 both choose among candidates"):
        check_best(3, 2)
