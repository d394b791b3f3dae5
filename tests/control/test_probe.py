"""Probes: what they learn from latents, where they lead, and that they come back from disk."""

import pytest
import torch

from textcosm.control.probe import Probe, fit_probe, space_of
from textcosm.errors import ConfigError, DataError
from textcosm.testing import tiny_model


def clusters(*labels: str, texts: int = 40):
    """Latents (texts, 2, 3) of each label around a place of its own."""
    generator = torch.Generator().manual_seed(0)
    latents = [3 * i + torch.randn(texts, 2, 3, generator=generator) for i in range(len(labels))]
    return torch.cat(latents), [label for label in labels for _ in range(texts)]


@pytest.mark.parametrize("labels", [("calm", "rude"), ("calm", "odd", "rude")])
def test_it_learns_and_leads(labels):
    latents, names = clusters(*labels)
    probe, accuracy = fit_probe(latents, names, "here")
    assert probe.labels == labels and accuracy > 0.9
    torch.testing.assert_close(probe.log_probabilities(latents).exp().sum(1), torch.ones(len(latents)))
    here = latents[:1]
    last = len(labels) - 1
    towards, away = probe.guide(labels[last], 0.5)(here, 0.0), probe.guide(f"not:{labels[last]}", 0.5)(here, 0.0)
    before = probe.log_probabilities(here)[0, last]
    assert probe.log_probabilities(towards)[0, last] > before > probe.log_probabilities(away)[0, last]
    assert probe.log_probabilities(probe.guide(labels[last], -0.5)(here, 0.0))[0, last] < before


def test_it_accepts_texts_of_its_label():
    latents, names = clusters("calm", "rude")
    probe, _ = fit_probe(latents, names, "here")
    two = torch.stack((latents[0], latents[-1]))
    assert probe.accept("calm", lambda texts: two)(["a", "b"]) == [True, False]
    assert probe.accept("not:calm", lambda texts: two)(["a", "b"]) == [False, True]
    with pytest.raises(ConfigError, match="knows no label 'sad'"):
        probe.accept("sad", lambda texts: two)


def test_it_comes_back_from_disk(tmp_path):
    latents, names = clusters("calm", "rude")
    probe, _ = fit_probe(latents, names, "here")
    probe.save(tmp_path / "probe")
    again = Probe.load(tmp_path / "probe")
    assert (again.labels, again.space) == (probe.labels, "here")
    torch.testing.assert_close(again.log_probabilities(latents), probe.log_probabilities(latents))


def test_what_is_refused():
    latents, names = clusters("calm", "rude")
    probe, _ = fit_probe(latents, names, "here")
    with pytest.raises(ConfigError, match="knows no label 'sad'; it knows calm, rude"):
        probe.guide("not:sad")
    with pytest.raises(ConfigError, match="made with another model's latents"):
        probe.check(tiny_model().normaliser)
    with pytest.raises(DataError, match="all texts have the label 'calm'"):
        fit_probe(latents, ["calm"] * len(latents), "here")
    with pytest.raises(DataError, match="too few texts have the label 'a'"):
        fit_probe(latents[:2], ["a", "b"], "here")


def test_a_space_is_known_by_its_statistics():
    one, other = tiny_model().normaliser, tiny_model().normaliser
    assert space_of(one) == space_of(other)
    other.mean += 1e-3
    assert space_of(one) != space_of(other)
