"""Classifier-free guidance: one pass where it does nothing, one doubled batch where it weighs the source."""

import pytest
import torch

from textcosm.diffusion.denoiser import Denoiser, DenoiserConfig, Memory
from textcosm.diffusion.guidance import told_of_sources
from textcosm.errors import ConfigError

NOISY, TIME, LAST = torch.randn(3, 4, 16), torch.full((3,), 0.5), torch.randn(3, 4, 16)


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    made = Denoiser(DenoiserConfig(width=16, depth=2, heads=2, ff_width=32, source_depth=1), 16, source_width=8).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def memory(denoiser) -> Memory:
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2, [True] + [False] * 4])
    return denoiser.encode_source(torch.randn(3, 5, 8), mask)


@pytest.mark.parametrize("weight", [0.0, 0.5, 2.5])
@pytest.mark.parametrize("last", [None, LAST])
def test_the_guess_moves_from_without_the_source_to_with_it_and_on(denoiser, memory, weight, last):
    told, untold = denoiser(NOISY, TIME, last, memory), denoiser(NOISY, TIME, last, denoiser.no_source(3))
    assert (told - untold).abs().max() > 0.01
    found = told_of_sources(denoiser, memory, weight)(NOISY, TIME, last)
    torch.testing.assert_close(found, untold + weight * (told - untold), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("weight", "texts"), [(1.0, 3), (1.5, 6)])
def test_one_pass_for_all(denoiser, memory, weight, texts):
    batches = []

    def counting(noisy, time, self_condition, memory):
        batches.append(len(noisy))
        return denoiser(noisy, time, self_condition, memory)

    told_of_sources(counting, memory, weight)(NOISY, TIME, None)
    assert batches == [texts]


def test_without_a_source_there_is_nothing_to_weigh(denoiser):
    assert told_of_sources(denoiser, None) is denoiser
    with pytest.raises(ConfigError, match="guidance = 1.5 weighs the source, and there is none: give a source"):
        told_of_sources(denoiser, None, 1.5)
