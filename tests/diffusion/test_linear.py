"""The closed-form linear guess: exact where latents are Gaussian, and a start that a denoiser can only improve."""

import pytest
import torch

from textcosm.diffusion.denoiser import DenoiserConfig, new_denoiser
from textcosm.diffusion.linear import LinearGuess
from textcosm.diffusion.schedule import TanSchedule
from textcosm.errors import ConfigError

SLOTS, WIDTH = 3, 4
SCHEDULE = TanSchedule()


@pytest.fixture
def latents():
    """4,000 texts whose 12 numbers hang together: mixed from as many independent ones of very different size."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.logspace(0.7, -1.5, SLOTS * WIDTH)
    mixing = torch.linalg.qr(torch.randn(SLOTS * WIDTH, SLOTS * WIDTH, generator=generator)).Q
    independent = torch.randn(4000, SLOTS * WIDTH, generator=generator) * sizes.sqrt()
    return (independent @ mixing).view(-1, SLOTS, WIDTH)


def guess_of(latents, rank):
    linear = LinearGuess(rank, SLOTS, WIDTH, SCHEDULE)
    linear.fit(lambda: latents.split(1000), torch.Generator().manual_seed(2))
    return linear


def noised(latents, time):
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    return SCHEDULE.alpha(time)[:, None, None] * latents + SCHEDULE.sigma(time)[:, None, None] * noise


@pytest.mark.parametrize("at", [0.1, 0.4, 0.8])
def test_with_all_directions_it_is_the_wiener_filter(latents, at):
    time = torch.full((len(latents),), at)
    alpha, sigma = SCHEDULE.alpha(at).item(), SCHEDULE.sigma(at).item()
    noisy, flat = noised(latents, time), latents.flatten(1)
    covariance = flat.T @ flat / len(flat)
    solved = torch.linalg.solve(alpha**2 * covariance + sigma**2 * torch.eye(12), alpha * covariance)
    torch.testing.assert_close(guess_of(latents, 12)(noisy, time), (noisy.flatten(1) @ solved).view_as(noisy))


def test_fewer_directions_guess_worse_and_none_of_them_worse_than_the_mean(latents):
    time = torch.full((len(latents),), 0.3)
    noisy = noised(latents, time)
    errors = [(guess_of(latents, rank)(noisy, time) - latents).square().mean().item() for rank in (12, 4, 1)]
    assert errors == sorted(errors) and errors[-1] < latents.square().mean().item()


def test_clean_latents_come_back_and_noise_gives_the_mean(latents):
    linear, some = guess_of(latents, 5), latents[:8]
    torch.testing.assert_close(linear(some, torch.zeros(8)), some)
    assert linear(some, torch.ones(8)).abs().max() < 1e-6


def test_an_untrained_denoiser_answers_with_the_guess(latents):
    config = DenoiserConfig(width=16, depth=2, heads=2, ff_width=16, projections=True, linear_rank=6)
    denoiser = new_denoiser(config, SCHEDULE, (SLOTS, WIDTH))
    denoiser.linear.fit(lambda: [latents], torch.Generator())
    noisy, time = latents[:5], torch.full((5,), 0.5)
    torch.testing.assert_close(denoiser(noisy, time), denoiser.linear(noisy, time))
    torch.nn.init.normal_(denoiser.leave.weight)
    denoiser(noisy, time).sum().backward()
    assert denoiser.from_linear.weight.grad.abs().sum() > 0


def test_the_search_finds_the_largest_directions_of_many():
    """600 numbers of which 5 vary most: found without the covariance, whatever the start."""
    generator = torch.Generator().manual_seed(3)
    sizes = torch.cat([torch.tensor([30.0, 20, 12, 8, 5]), torch.full((595,), 0.5)])
    latents = (torch.randn(3000, 600, generator=generator) * sizes.sqrt()).view(3000, 30, 20)
    linear = LinearGuess(5, 30, 20, SCHEDULE)
    linear.fit(lambda: latents.split(500), generator)
    torch.testing.assert_close(linear.variances, sizes[:5], rtol=0.08, atol=0)
    torch.testing.assert_close(linear.rest, torch.tensor(0.5), rtol=0.02, atol=0)
    torch.testing.assert_close(linear.directions[:, :5].abs(), torch.eye(5), rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        ({"linear_rank": 13}, (3, 4), "linear_rank = 13 is more than a text's 12 numbers"),
        ({"linear_rank": -1}, (3, 4), "linear_rank = -1 is below 0"),
        ({"linear_rank": 8, "projections": False}, (3, 16), "set projections = true"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, shape, message):
    with pytest.raises(ConfigError, match=message):
        new_denoiser(DenoiserConfig(**{"width": 16, "heads": 2, "projections": True, **changes}), SCHEDULE, shape)


def test_a_covariance_needs_texts():
    with pytest.raises(ConfigError, match="2 texts or more, got 0"):
        LinearGuess(2, SLOTS, WIDTH, SCHEDULE).fit(list, torch.Generator())


# --- sources whose own latents are given


@pytest.fixture
def pairs(latents):
    """Sources, and answers that are a linear change of them beside noise of their own."""
    generator = torch.Generator().manual_seed(3)
    change = torch.linalg.qr(torch.randn(SLOTS * WIDTH, SLOTS * WIDTH, generator=generator)).Q
    answers = 0.8 * (latents.flatten(1) @ change) + 0.2 * torch.randn(len(latents), SLOTS * WIDTH, generator=generator)
    return answers.view_as(latents), latents


def told_guess(pairs, rank=SLOTS * WIDTH):
    linear = LinearGuess(rank, SLOTS, WIDTH, SCHEDULE, reads_sources=True)
    linear.fit(lambda: pairs[0].split(1000), torch.Generator().manual_seed(2))
    linear.fit_sources(zip(*(side.split(1000) for side in pairs), strict=True))
    return linear


@pytest.mark.parametrize("at", [0.3, 0.7, 1.0])
def test_a_source_says_where_its_answer_is(pairs, at):
    answers, sources = pairs
    linear, time = told_guess(pairs), torch.full((len(answers),), at)
    noisy = noised(answers, time)
    errors = [(linear(noisy, time, source) - answers).square().mean().item() for source in (None, sources)]
    assert errors[1] < errors[0] and errors[1] < 0.045  # 0.04 is what no source tells
    if at == 1.0:
        assert errors[1] == pytest.approx(0.04, rel=0.1) and errors[0] > 3 * errors[1]


def test_a_text_without_a_source_is_guessed_as_if_there_were_none(pairs):
    answers, sources = pairs
    linear, time = told_guess(pairs), torch.full((4,), 0.6)
    noisy, some = noised(answers[:4], time), sources[:4].clone()
    some[1] = 0
    mixed, plain = linear(noisy, time, some), linear(noisy, time)
    torch.testing.assert_close(mixed[1], plain[1])
    assert not torch.allclose(mixed[0], plain[0])


def test_sources_that_tell_nothing_are_shrunk_away(latents):
    other = torch.randn(latents.shape, generator=torch.Generator().manual_seed(9))
    linear, time = told_guess((latents, other)), torch.full((len(latents),), 0.7)
    noisy = noised(latents, time)
    told, plain = ((linear(noisy, time, source) - latents).square().mean().item() for source in (other, None))
    assert told < 1.02 * plain


def test_too_few_pairs(latents):
    linear = LinearGuess(4, SLOTS, WIDTH, SCHEDULE, reads_sources=True)
    with pytest.raises(ConfigError, match="needs 10 pairs or more, got 3"):
        linear.fit_sources([(latents[:3], latents[:3])])
    with pytest.raises(ConfigError, match="needs 10 pairs or more, got 0"):
        linear.fit_sources([])
