import math

import pytest
import torch

from textcosm.diffusion.schedule import LATEST, TanSchedule
from textcosm.errors import ConfigError

TIMES = torch.linspace(0.01, 0.94, 50, dtype=torch.float64)


@pytest.mark.parametrize("d", [1.0, 5.0, 7.0])
def test_alpha_is_the_published_formula(d):
    expected = 1 / torch.sqrt(1 + d**2 * torch.tan(math.pi * TIMES / 2) ** 2)
    torch.testing.assert_close(TanSchedule(d).alpha(TIMES), expected)


@pytest.mark.parametrize("d", [1.0, 5.0, 7.0])
def test_identities(d):
    schedule = TanSchedule(d)
    alpha, sigma = schedule.alpha(TIMES), schedule.sigma(TIMES)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(TIMES))
    torch.testing.assert_close(schedule.log_snr(TIMES), torch.log(alpha**2 / sigma**2))
    torch.testing.assert_close(schedule.time_of_log_snr(schedule.log_snr(TIMES)), TIMES)


def test_beta_is_the_rate_at_which_signal_is_lost():
    time = TIMES.clone().requires_grad_()
    schedule = TanSchedule(5.0)
    (slope,) = torch.autograd.grad(2 * schedule.alpha(time).log().sum(), time)
    torch.testing.assert_close(schedule.beta(TIMES), -slope)
    assert schedule.beta(1.0) == schedule.beta(0.95)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_are_finite(dtype):
    schedule, ends = TanSchedule(), torch.tensor([0.0, 1.0], dtype=dtype)
    torch.testing.assert_close(schedule.alpha(ends), torch.tensor([1.0, 0.0], dtype=dtype))
    torch.testing.assert_close(schedule.sigma(ends), torch.tensor([0.0, 1.0], dtype=dtype))
    assert (schedule.alpha(ends) >= 0).all()
    assert schedule.log_snr(ends).isfinite().all()
    assert schedule.log_snr(1.0) == schedule.log_snr(LATEST)


def test_numbers_are_computed_in_float64_and_tensors_in_their_own_type():
    assert TanSchedule().alpha(0.5).dtype == torch.float64
    assert TanSchedule().alpha(torch.tensor([0.5])).dtype == torch.float32


def test_the_noise_of_the_reference_end_time():
    # At d = 5, time 0.05 still holds a = 0.93, s = 0.37.
    assert TanSchedule(5.0).alpha(0.05).item() == pytest.approx(0.93, abs=5e-3)
    assert TanSchedule(5.0).sigma(0.05).item() == pytest.approx(0.37, abs=5e-3)


def test_d_must_be_positive():
    with pytest.raises(ConfigError, match="d = 0"):
        TanSchedule(0.0)
