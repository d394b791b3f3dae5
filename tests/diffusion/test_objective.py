import pytest
import torch

from textcosm.diffusion.denoiser import Denoiser, DenoiserConfig
from textcosm.diffusion.objective import DiffusionObjectiveConfig, diffusion_loss
from textcosm.diffusion.sampling import SamplerConfig, seeds_of, trajectory
from textcosm.diffusion.schedule import TanSchedule
from textcosm.errors import ConfigError

SCHEDULE = TanSchedule()
LATENTS = torch.randn(10, 4, 8, generator=torch.Generator().manual_seed(0))


def loss(denoise, latents=LATENTS, seed=0, memory=None, **config):
    generator = torch.Generator().manual_seed(seed)
    return diffusion_loss(denoise, SCHEDULE, latents, DiffusionObjectiveConfig(**config), generator, memory)


class Recorder:
    """Answers with the noisy latents, and remembers its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, noisy, time, self_condition, memory):
        self.calls.append((noisy, time, self_condition, torch.is_grad_enabled()))
        return noisy


def test_the_target_is_x_0():
    latents = torch.full((10, 4, 8), 0.5)
    assert loss(lambda noisy, *_: torch.full_like(noisy, 0.5), latents) == 0
    assert loss(lambda noisy, *_: torch.full_like(noisy, 2.5), latents) == pytest.approx(4)


def test_noisy_latents_follow_the_schedule():
    recorder = Recorder()
    latents = torch.full((4000, 1, 8), 3.0)
    loss(recorder, latents, self_condition_probability=0.0)
    (noisy, time, _, _), *rest = recorder.calls
    assert not rest
    noise = (noisy - SCHEDULE.alpha(time)[:, None, None] * 3) / SCHEDULE.sigma(time)[:, None, None]
    assert noise.mean().abs() < 0.02 and (noise.std() - 1).abs() < 0.02
    assert 1e-5 <= time.min() < 0.01 and 0.99 < time.max() <= 1 and (time.mean() - 0.5).abs() < 0.02


@pytest.mark.parametrize(("probability", "rows"), [(1.0, 10), (0.5, 5), (0.2, 2)])
def test_a_share_of_the_rows_sees_a_first_guess(probability, rows):
    recorder = Recorder()
    loss(recorder, self_condition_probability=probability)
    (first, _, nothing, first_gradient), (noisy, _, guess, gradient) = recorder.calls
    assert nothing is None and not first_gradient and gradient
    assert first.shape[0] == rows
    torch.testing.assert_close(guess[:rows], noisy[:rows])
    assert not guess[rows:].any()


def test_a_single_row_tosses_a_coin():
    recorders = [Recorder() for _ in range(100)]
    for seed, recorder in enumerate(recorders):
        loss(recorder, LATENTS[:1], seed)
    assert 30 < sum(len(recorder.calls) == 2 for recorder in recorders) < 70


def test_randomness_is_the_generators():
    denoiser = Denoiser(DenoiserConfig(width=8, depth=2, heads=2, ff_width=16), latent_width=8)
    assert loss(denoiser, seed=1) == loss(denoiser, seed=1) != loss(denoiser, seed=2)


@pytest.mark.parametrize("wrong", [{"self_condition_probability": 1.5}, {"min_time": 0.0}])
def test_wrong_settings(wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} = .* is outside"):
        DiffusionObjectiveConfig(**wrong)


def test_copy_task():
    """Slot i must say the i-th symbol of the source: learned through cross-attention, then sampled from noise."""
    symbols, slots, width = 8, 4, 16
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(symbols, width, generator=generator)
    words, places = torch.randn(symbols, 12, generator=generator), torch.randn(slots, 12, generator=generator)
    config = DenoiserConfig(width=32, depth=2, heads=2, ff_width=64, source_depth=1, slots=slots)
    denoiser = Denoiser(config, width, source_width=12)
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=5e-3)

    def source(n):
        text = torch.randint(symbols, (n, slots), generator=generator)
        return text, denoiser.encode_source(words[text] + places, torch.ones_like(text, dtype=torch.bool))

    for _ in range(200):
        text, memory = source(64)
        optimiser.zero_grad()
        diffusion_loss(denoiser, SCHEDULE, codes[text], DiffusionObjectiveConfig(), generator, memory).backward()
        optimiser.step()

    text, memory = source(100)
    *_, last = trajectory(denoiser.eval(), SCHEDULE, SamplerConfig(5), seeds_of(0, 100), (slots, width), memory=memory)
    said = torch.cdist(last.clean, codes.expand(100, -1, -1)).argmin(-1)
    assert (said == text).float().mean() > 0.95
