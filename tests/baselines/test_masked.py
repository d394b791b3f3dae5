"""The masked rival: its bound has the right value, and sampling unmasks everything once."""

import math

import pytest
import torch

from textcosm.baselines.masked import MIN_TIME, _times
from textcosm.baselines.settings import RivalSampler


@pytest.fixture
def rival_network(network):
    return network("masked")


def test_the_bound_of_equal_chances_is_what_it_must_be(rival_network, vocabulary, batch):
    """All logits 0: each of the L - 1 positions costs log(K) on average, whatever the times."""
    torch.nn.init.zeros_(rival_network.embed.weight)
    tokens, length = vocabulary.shrink(batch.tokens), rival_network.config.max_length
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        found = [float(rival_network.losses(tokens, batch.mask, generator)["loss"]) for _ in range(150)]
    expected = math.log(vocabulary.mask) * len(tokens) * (length - 1) / int(batch.mask[:, 1:].sum())
    assert sum(found) / len(found) == pytest.approx(expected, rel=0.05)


def test_times_are_spread_over_the_batch():
    times = _times(8, torch.Generator().manual_seed(0))
    assert times.min() >= MIN_TIME and times.max() <= 1
    assert ((times - MIN_TIME) / (1 - MIN_TIME) * 8).floor().tolist() == list(range(8))


def test_the_network_sees_both_sides_and_its_position(rival_network, vocabulary):
    tokens = torch.full((1, rival_network.config.max_length), vocabulary.mask)
    tokens[:, 0] = vocabulary.start
    other = tokens.clone()
    other[0, -1] = vocabulary.end
    with torch.no_grad():
        here, there = rival_network(tokens), rival_network(other)
    assert not torch.allclose(here[:, 1], there[:, 1])
    assert not torch.allclose(here[:, 1], here[:, 2])


@pytest.mark.parametrize("steps", [1, 3, 200])
def test_every_token_appears_once_and_stays(rival_network, vocabulary, monkeypatch, steps):
    seen = []
    forward = rival_network.forward
    monkeypatch.setattr(rival_network, "forward", lambda tokens: seen.append(tokens.clone()) or forward(tokens))
    tokens = rival_network.generate([5], RivalSampler(steps=steps))
    assert (tokens[:, 0] == vocabulary.start).all()
    assert (tokens < vocabulary.mask).all()
    hidden = [int((step == vocabulary.mask).sum()) for step in seen]
    assert hidden[0] == rival_network.config.max_length - 1
    assert all(later < earlier for earlier, later in zip(hidden, hidden[1:], strict=False))  # no pass without a change
    for step in seen:
        known = step != vocabulary.mask
        assert step[known].equal(tokens[known])


def test_a_text_depends_on_its_own_seed_alone(rival_network):
    sampler = RivalSampler(steps=10)
    together = rival_network.generate([1, 2, 3, 4], sampler)
    assert together[2].equal(rival_network.generate([3], sampler)[0])
    assert not together[0].equal(together[1])


def test_a_token_never_seen_is_read_but_not_scored(rival_network, vocabulary, batch):
    tokens = vocabulary.shrink(batch.tokens)
    tokens[:, 1:] = torch.where(batch.mask[:, 1:], vocabulary.mask, tokens[:, 1:])
    with torch.no_grad():
        loss = rival_network.losses(tokens[:1], batch.mask[:1], torch.Generator().manual_seed(1))["loss"]
    assert loss.isfinite()


def test_sampling_an_overfitted_network_gives_its_text_back(vocabulary, batch, rival_network):
    """Trained on one text, it writes that text: losses and sampling speak of the same positions."""
    tokens, mask = vocabulary.shrink(batch.tokens[:1]).repeat(8, 1), batch.mask[:1].repeat(8, 1)
    optimizer, generator = torch.optim.Adam(rival_network.parameters(), lr=1e-2), torch.Generator().manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        rival_network.losses(tokens, mask, generator)["loss"].backward()
        optimizer.step()
    length = int(mask[0].sum())
    found = rival_network.generate([1, 2], RivalSampler(steps=20))
    assert found[:, :length].equal(tokens[:2, :length])
    assert (found[:, length:] == vocabulary.pad).all()
