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


def test_a_share_of_the_rows_does_not_see_its_source():
    hidden = []

    def denoise(noisy, time, self_condition, memory):
        hidden.append(~memory.mask[:, 1:].any(1))
        return noisy

    network = Denoiser(DenoiserConfig(width=8, depth=1, heads=2, ff_width=8, source_depth=1), 8, source_width=5)
    memory = network.encode_source(torch.randn(10, 3, 5), torch.ones(10, 3, dtype=torch.bool))
    for seed in range(40):
        loss(denoise, seed=seed, memory=memory, source_drop_probability=0.25)
    firsts, wholes = torch.stack(hidden[::2]), torch.stack(hidden[1::2])
    assert set(wholes.sum(1).tolist()) == {2, 3}
    assert (wholes.float().mean(0) > 0).all()  # any row may be the one
    assert torch.equal(firsts, wholes[:, :5])  # the guess knows as much as what it is for
    hidden.clear()
    loss(denoise, memory=memory, source_drop_probability=0.0)
    assert not hidden[-1].any()


def test_self_guidance_moves_the_target_of_rows_that_see_a_guess():
    guesses = iter([1.0, 1.5])
    found = loss(
        lambda noisy, *_: torch.full_like(noisy, next(guesses)), torch.ones_like(LATENTS), self_guidance=0.5
    )  # target 1 + .5 (1.5 - 1) for half of the rows, 1 for the others
    assert found == pytest.approx((0.25**2 + 0.5**2) / 2)


def test_self_guidance_settles_at_guidance_of_a_larger_scale():
    """Guess 0.6 of x_0 = 1: the fixed point with w = .5 is as far past x_0 as guidance of scale 2 is."""
    said = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.SGD([said], lr=0.5)

    def denoise(noisy, time, self_condition, memory):
        return torch.full_like(noisy, 0.6) if self_condition is None else said.expand_as(noisy)

    for _ in range(60):
        optimiser.zero_grad()
        loss(denoise, torch.ones_like(LATENTS), self_condition_probability=1.0, self_guidance=0.5).backward()
        optimiser.step()
    assert said.item() == pytest.approx(0.6 + 2 * (1 - 0.6), abs=1e-3)


def test_self_guidance_without_guesses():
    with pytest.raises(ConfigError, match="self_guidance = 0.5 needs first guesses"):
        DiffusionObjectiveConfig(self_condition_probability=0.0, self_guidance=0.5)


@pytest.mark.parametrize(
    "wrong",
    [{"self_condition_probability": 1.5}, {"min_time": 0.0}, {"source_drop_probability": 1.0}, {"self_guidance": 1.0}],
)
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
