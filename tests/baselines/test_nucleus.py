"""Nucleus sampling: the right tokens, in the right shares, by each row's own number."""

import pytest
import torch

from textcosm.baselines.nucleus import FIRST_LOOK, choose, uniforms_of

CHANCES = torch.tensor([0.15, 0.5, 0.05, 0.3])


def shares(logits, top_p=0.9, temperature=1.0, draws=10_000):
    """The share of each token over evenly spread uniform numbers."""
    uniforms = (torch.arange(draws) + 0.5) / draws
    chosen = choose(logits.expand(draws, -1), uniforms, top_p, temperature)
    return torch.bincount(chosen, minlength=logits.shape[-1]) / draws


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [
        (0.3, [0.0, 1.0, 0.0, 0.0]),
        (0.75, [0, 5 / 8, 0, 3 / 8]),
        (0.9, [0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95]),
        (1.0, [0.15, 0.5, 0.05, 0.3]),
    ],
)
def test_the_fewest_likeliest_tokens_that_reach_the_mass(top_p, expected):
    torch.testing.assert_close(shares(CHANCES.log(), top_p), torch.tensor(expected), atol=2e-4, rtol=0)


def test_temperature_divides_the_logits():
    sharper = CHANCES.square() / CHANCES.square().sum()
    torch.testing.assert_close(shares(CHANCES.log(), 1.0, 0.5), sharper, atol=2e-4, rtol=0)


@pytest.mark.parametrize("spread", [0.1, 1.0, 6.0])
def test_the_nucleus_is_that_of_transformers(spread):
    """Flat logits (all must be sorted) and peaked ones (a first look is enough)."""
    from transformers import TopPLogitsWarper

    logits = spread * torch.randn(1, 3 * FIRST_LOOK, generator=torch.Generator().manual_seed(0))
    kept = TopPLogitsWarper(0.9)(torch.empty(0, dtype=torch.long), logits.clone())
    expected = torch.softmax(kept[0], -1)
    found = shares(logits[0], 0.9, draws=4000)
    torch.testing.assert_close(found, expected, atol=5e-4, rtol=0)


def test_numbers_at_both_ends_stay_in_the_nucleus():
    ends = torch.tensor([0.0, 1 - 2**-24])
    assert choose(CHANCES.log().expand(2, -1), ends, 0.75).tolist() == [1, 3]
    assert choose(torch.zeros(2, 1000), ends, 1.0).max() < 1000


def test_no_rows_are_no_tokens():
    assert choose(torch.zeros(0, 5), torch.zeros(0)).tolist() == []


def test_a_row_of_numbers_depends_on_its_seed_alone():
    together = uniforms_of([3, 4, 5], 6)
    assert together[1].equal(uniforms_of([4], 6)[0])
    assert together.unique().numel() == 18
