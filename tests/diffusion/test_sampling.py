import math
from itertools import pairwise

import pytest
import torch

from diffusion import gaussian
from textcosm.diffusion.denoiser import Denoiser, DenoiserConfig
from textcosm.diffusion.guidance import Guide
from textcosm.diffusion.sampling import SamplerConfig, noise_source, seeds_of, trajectory
from textcosm.diffusion.schedule import TanSchedule
from textcosm.diffusion.solvers import DDIM, SOLVERS, ProbabilityFlowEuler
from textcosm.errors import ConfigError

SHAPE = (4, 16)


def points(config=None, seeds=None, denoise=gaussian.denoise, **options):
    config, seeds = config or SamplerConfig(steps=5), seeds or seeds_of(0, 3)
    return list(trajectory(denoise, gaussian.SCHEDULE, config, seeds, SHAPE, **options))


def result(*args, **options):
    return points(*args, **options)[-1].clean


def small_denoiser():
    torch.manual_seed(0)
    denoiser = Denoiser(DenoiserConfig(width=16, depth=2, heads=2, ff_width=32), latent_width=16).eval()
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return denoiser


def test_the_reference_sampler():
    """200 uniform steps of Euler-Maruyama from 1 to 0.05, x_0 fed back; the mean of the last (arXiv 2506.21170)."""
    denoiser, schedule, seeds = small_denoiser(), TanSchedule(5.0), seeds_of(3, 2)
    config = SamplerConfig(solver="euler-maruyama", steps=200, end_time=0.05, final="mean")
    draw = noise_source(seeds, SHAPE)
    x, clean = draw(), None
    with torch.no_grad():
        for t, s in pairwise(torch.linspace(1, 0.05, 201, dtype=torch.float64).tolist()):
            clean = denoiser(x, torch.full((2,), t), clean)
            tan = math.tan(math.pi * min(t, 0.95) / 2)
            beta = math.pi * 25 * tan * (1 + tan**2) / (1 + 25 * tan**2)
            score = (schedule.alpha(t) * clean - x) / schedule.sigma(t) ** 2
            mean = x - (-0.5 * beta * x - beta * score) * (t - s)
            x = mean + math.sqrt(beta * (t - s)) * draw()
    ours = list(trajectory(denoiser, schedule, config, seeds, SHAPE))
    assert len(ours) == 200 and ours[-1].time == pytest.approx(0.05)
    torch.testing.assert_close(ours[-1].clean, mean, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("final", ["clean", "mean"])
def test_samples_follow_the_known_distribution(solver, final):
    drawn = result(SamplerConfig(100, solver, 0.01, final), seeds_of(0, 200))
    assert drawn.mean().item() == pytest.approx(gaussian.MEAN, abs=0.03)
    assert drawn.std().item() == pytest.approx(gaussian.SPREAD, abs=0.06)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_sample_is_the_same_in_any_batch(solver):
    denoiser, config = small_denoiser(), SamplerConfig(4, solver)
    together = result(config, seeds_of(7, 5), denoiser)
    torch.testing.assert_close(together[:2], result(config, seeds_of(7, 2), denoiser))
    torch.testing.assert_close(together[3:4], result(config, seeds_of(7, 5)[3:4], denoiser))


def test_seeds():
    assert seeds_of(0, 3) == seeds_of(0, 10)[:3]
    assert len(set(seeds_of(5, 2000))) == 2000
    assert not set(seeds_of(0, 1000)) & set(seeds_of(1, 1000))
    assert all(0 <= seed < 2**32 for seed in seeds_of(-1, 4))
    assert not set(seeds_of(0, 1000)) & set(seeds_of(0, 1000, candidate=1))


def test_noise_is_fresh_and_standard():
    draw = noise_source(seeds_of(0, 100), (16, 32))
    first, second = draw(), draw()
    assert not torch.equal(first, second)
    assert first.mean().abs() < 0.02 and (first.std() - 1).abs() < 0.02
    assert torch.corrcoef(first.flatten(1)).fill_diagonal_(0).abs().max() < 0.25  # 51,200 pairs' worth of luck


@pytest.mark.parametrize("final", ["clean", "mean"])
@pytest.mark.parametrize("grid", ["uniform", "log-snr"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_a_point_for_each_step(final, grid, steps):
    calls = []

    def counting(noisy, time, self_condition):
        calls.append(time)
        return gaussian.denoise(noisy, time)

    walked = points(SamplerConfig(steps, "ddim", 0.05, final, grid), denoise=counting)
    times = [point.time for point in walked]
    assert len(times) == len(calls) == steps
    assert all(time > later for time, later in pairwise(times))
    if steps > 1:
        assert times[0] == 1.0
    if steps > 1 or final == "mean":
        assert times[-1] == pytest.approx(0.05)


def test_a_log_snr_grid_is_even_in_log_snr():
    times = SamplerConfig(12, grid="log-snr").times(TanSchedule())
    gaps = [TanSchedule().log_snr(s).item() - TanSchedule().log_snr(t).item() for t, s in pairwise(times[1:])]
    assert gaps == pytest.approx([gaps[0]] * len(gaps))
    assert times[0] == 1.0 and times[-1] == 0.05


@pytest.mark.parametrize("end_time", [0.0, 0.5, 0.995])
@pytest.mark.parametrize("grid", ["uniform", "log-snr"])
def test_any_end_time(grid, end_time):
    times = SamplerConfig(6, "dpm++2m", end_time, grid=grid).times(TanSchedule())
    assert len(times) == 6 and times[0] == 1.0 and times[-1] == pytest.approx(end_time)
    assert result(SamplerConfig(6, "dpm++2m", end_time, grid=grid)).isfinite().all()


def test_each_pass_is_conditioned_on_the_last():
    seen = []

    def denoise(noisy, time, self_condition):
        seen.append(self_condition)
        return noisy / 2

    walked = points(SamplerConfig(4, "ddim"), denoise=denoise)
    assert seen[0] is None
    assert all(a is b.clean for a, b in zip(seen[1:], walked, strict=False))


def test_the_mean_has_no_noise_in_its_last_step():
    assert torch.equal(
        result(SamplerConfig(1, "euler-maruyama", 0.5, "mean")), result(SamplerConfig(1, "euler-maruyama", 0.5, "mean"))
    )
    start = points(SamplerConfig(2, "ddpm", 0.5, "mean"), seeds_of(0, 1))[-1]
    assert start.noisy is start.clean


def test_a_solver_from_outside():
    config = SamplerConfig(5, "ddim")
    torch.testing.assert_close(result(config, solver=ProbabilityFlowEuler()), result(SamplerConfig(5, "pf-euler")))
    torch.testing.assert_close(result(SamplerConfig(5, "pf-euler"), solver=DDIM()), result(config))


def test_memory_reaches_the_network():
    config = DenoiserConfig(width=16, depth=2, heads=2, ff_width=32, source_depth=1)
    denoiser = Denoiser(config, latent_width=16, source_width=8)
    memory = denoiser.encode_source(torch.randn(3, 5, 8), torch.ones(3, 5, dtype=torch.bool))
    seen = []

    def denoise(noisy, time, self_condition, memory):
        seen.append(memory)
        return noisy

    points(SamplerConfig(2), denoise=denoise, memory=memory)
    assert seen == [memory, memory]


# --- a start


@pytest.mark.parametrize("final", ["clean", "mean"])
@pytest.mark.parametrize("grid", ["uniform", "log-snr"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("start_time", [1.0, 0.9999, 0.7, 0.06])
def test_a_walk_begins_at_its_start(final, grid, steps, start_time):
    config = SamplerConfig(steps, "ddim", 0.05, final, grid)
    times = config.times(TanSchedule(), start_time)
    assert times[0] == start_time and all(time > later for time, later in pairwise(times))
    assert len(times) == steps + (final == "mean")
    walked = points(config, start=torch.zeros(3, *SHAPE), start_time=start_time)
    assert len(walked) == steps


def test_a_start_below_the_end_time_is_asked_once():
    assert SamplerConfig(9, end_time=0.05).times(TanSchedule(), 0.02) == [0.02]
    (only,) = points(SamplerConfig(9), start=torch.ones(3, *SHAPE), start_time=0.02)
    assert only.time == 0.02


def test_the_start_has_the_noise_of_its_time_and_seed():
    start, schedule = torch.full((3, *SHAPE), 2.0), gaussian.SCHEDULE
    noise = noise_source(seeds_of(0, 3), SHAPE)()
    first = points(start=start, start_time=0.4)[0].noisy
    torch.testing.assert_close(first, schedule.alpha(0.4).float() * start + schedule.sigma(0.4).float() * noise)
    torch.testing.assert_close(points(start=start)[0].noisy, noise)
    assert torch.equal(points(SamplerConfig(1, end_time=0.0), start=start, start_time=0.0)[0].noisy, start)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start_time": 0.5}, "start_time = 0.5 is for latents to start from, and there are none"),
        ({"start": torch.zeros(3, *SHAPE), "start_time": 1.5}, r"start_time = 1.5 is outside \[0, 1\]"),
        ({"start": torch.zeros(2, *SHAPE)}, r"the start is \(2, 4, 16\); this walk takes \(3, 4, 16\)"),
    ],
)
def test_a_start_that_cannot_be(wrong, message):
    with pytest.raises(ConfigError, match=message):
        points(**wrong)


# --- guides


class Shift:
    """A guide that remembers where it was asked."""

    def __init__(self, by: float):
        self.by, self.times = by, []

    def __call__(self, clean, time):
        self.times.append(time)
        return clean + self.by

    def select(self, rows):
        return self


def test_every_guess_is_guided_before_anybody_sees_it():
    seen, guide = [], Shift(1.0)

    def denoise(noisy, time, self_condition):
        seen.append(self_condition)
        return torch.zeros_like(noisy)

    walked = points(SamplerConfig(4, "heun"), denoise=denoise, guides=[guide, Shift(2.0)])
    assert all(torch.equal(point.clean, torch.full_like(point.clean, 3.0)) for point in walked)
    assert seen[0] is None and all(torch.equal(one, torch.full_like(one, 3.0)) for one in seen[1:])
    assert len(guide.times) == len(seen) == 7  # Heun asks twice a step, but for the last
    assert guide.times[0] == 1.0 and isinstance(guide, Guide)


def test_a_guide_may_take_gradients():
    class Uphill(Shift):
        def __call__(self, clean, time):
            with torch.enable_grad():
                x = clean.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(-(x**2).sum(), x)
            return clean + 0.5 * gradient

    found = result(SamplerConfig(3), denoise=small_denoiser(), guides=[Uphill(0.0)])
    assert not found.requires_grad and torch.equal(found, torch.zeros_like(found))


# --- the rest


def test_no_gradient_is_kept():
    assert not result(denoise=small_denoiser()).requires_grad


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps = 0 is below 1"),
        ({"end_time": 1.0}, r"end_time = 1.0 is outside \[0, 1\)"),
        ({"solver": "rk45"}, "'rk45' is unknown"),
        ({"guidance": -0.5}, "guidance = -0.5 is no number from 0 up"),
        ({"guidance": math.nan}, "guidance = nan is no number"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SamplerConfig(**wrong)


@pytest.mark.parametrize("name", ["final", "grid"])
def test_unknown_choice(name):
    config = SamplerConfig()
    object.__setattr__(config, name, "other")  # as from a file: the tests' type checks refuse it earlier
    with pytest.raises(ConfigError, match=f"{name} = 'other' is unknown; choose"):
        config.__post_init__()


def test_nothing_to_sample():
    with pytest.raises(ConfigError, match="0 samples"):
        next(trajectory(gaussian.denoise, gaussian.SCHEDULE, SamplerConfig(), [], SHAPE))


# --- times that were taught


VISIT = (1.0, 0.8, 0.7, 0.5)


def test_taught_times_are_walked_where_the_steps_are_theirs():
    config = SamplerConfig(4, "ddim", 0.4, visit=VISIT)
    assert [point.time for point in points(config)] == list(VISIT) and config.note is None
    assert config.times(TanSchedule(), 0.75) == [0.75, 0.7, 0.5] and config.times(TanSchedule(), 0.5) == [0.5]


def test_other_steps_take_the_ordinary_grid_and_say_so():
    config = SamplerConfig(3, "ddim", 0.4, visit=VISIT)
    assert config.times(TanSchedule()) == SamplerConfig(3, "ddim", 0.4).times(TanSchedule())
    assert config.note == "distilled for 4 steps; 3 were asked for" and SamplerConfig(3).note is None


@pytest.mark.parametrize("visit", [(0.9, 0.5), (1.0, 0.5, 0.5), (1.0, 0.5, 0.7), (1.0, -0.1)])
def test_times_that_cannot_be_taught(visit):
    with pytest.raises(ConfigError, match="does not fall from 1 towards 0"):
        SamplerConfig(2, visit=visit)
    with pytest.raises(ConfigError, match="final = 'mean' needs a time beyond the last of visit"):
        SamplerConfig(2, final="mean", visit=VISIT)
