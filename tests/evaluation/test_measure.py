"""Measurements of a whole model: on a model that keeps everything, and on an untrained one."""

import json

import numpy as np
import pytest
import torch

from textcosm.errors import DataError
from textcosm.evaluation.judges import Judge, Readings, Surprise
from textcosm.evaluation.measure import measure_autoencoder, measure_generation, measure_texts
from textcosm.pipeline import Reconstruction, TextDiffusion

TEXTS = [
    "The old man walked home in the rain. He was happy.",
    "Anna bought a cake for her friend. They ate it at the park.",
    "The dog ran away! My brother found it after dinner.",
    "We lost the game, but nobody was sad about it.",
]


class Memory(TextDiffusion):
    """Keeps each text under its latents; decodes the nearest one, and less and less of it as noise grows."""

    def __init__(self, tiny: TextDiffusion):
        super().__init__(tiny.config, tiny.autoencoder, tiny.normaliser, tiny.denoiser, tiny.tokenizer, "none")
        self.known: dict[str, torch.Tensor] = {}

    def encode(self, texts, batch_size=64):
        for text in texts:
            generator = torch.Generator().manual_seed(len(self.known))
            self.known.setdefault(text, torch.randn(self.normaliser.mean.shape, generator=generator))
        return torch.stack([self.known[text] for text in texts])

    def decode(self, latents):
        return [self._nearest(z) for z in latents]

    def _nearest(self, z):
        distances = {text: float((z - known).square().mean().sqrt()) for text, known in self.known.items()}
        text = min(distances, key=lambda text: distances[text])
        words = text.split()
        return " ".join(words[: len(words) - int(3 * distances[text])])

    def reconstruct(self, texts, batch_size=64):
        return [Reconstruction(text, text, 1.0) for text in texts]


class FlatJudge(Judge):
    """Finds every word equally surprising: ``nats`` each."""

    def __init__(self, nats: float):
        self.name, self.nats = "flat", nats

    def read(self, texts, batch_tokens=1024, progress=lambda done: None, cache=None):
        costs = [Surprise(self.nats * len(text.split()), len(text.split())) if text else None for text in texts]
        return Readings(costs, np.zeros((len(texts), 4), dtype=np.float32))


def test_a_model_that_keeps_everything_scores_one_and_noise_wears_it_down(tiny_model):
    found = measure_autoencoder(Memory(tiny_model), TEXTS, sigmas=(0.0, 0.5, 1.0), noise_texts=3)
    assert found.texts == 4
    assert found.token_accuracy.value == 1 and found.whole_texts.value == 1
    assert found.written_form.words.value == 1
    clean, some, more = (level.bleu.value for level in found.under_noise)
    assert clean == pytest.approx(1) and clean > some > more
    assert found.compression.nominal == 24 / 8
    lengths = tiny_model.tokenizer.tokenize(TEXTS, 24).mask.sum(1).float()
    assert found.compression.real == pytest.approx(float(lengths.mean()) / 8)


def test_an_untrained_model_is_measured_too_and_the_same_twice(tiny_model):
    found = measure_autoencoder(tiny_model, TEXTS, sigmas=(0.0, 1.0))
    assert 0 <= found.token_accuracy.value < 0.9
    assert found == measure_autoencoder(tiny_model, TEXTS, sigmas=(0.0, 1.0))
    assert json.loads(json.dumps(found.to_dict()))["under_noise"][1]["sigma"] == 1.0


def test_cut_texts_are_counted(tiny_model):
    found = measure_autoencoder(tiny_model, [TEXTS[0], "far too long " * 40], sigmas=())
    assert found.compression.cut == 1


def test_real_texts_against_themselves(tiny_model):
    found = measure_generation(TEXTS, TEXTS, training_texts=TEXTS[:1], judge=FlatJudge(2.0))
    assert found.diversity_ratio == pytest.approx(1)
    assert found.perplexity_ratio == pytest.approx(1)
    assert found.generated.copies == 1
    assert found.generated.memorised.value == pytest.approx(10 / (10 + 12 + 9 + 9))
    assert found.generated.sentences_per_text == pytest.approx(7 / 4)
    assert json.dumps(found.to_dict())


def test_without_a_judge_there_is_no_perplexity():
    found = measure_generation(TEXTS[:2], TEXTS, training_texts=iter(TEXTS))
    assert found.perplexity_ratio is None and found.generated.perplexity is None
    assert found.real.texts == 2


def test_too_few_references_and_nothing_to_measure_are_clear_errors(tiny_model):
    with pytest.raises(DataError, match="4 texts need as many references and 1 were given"):
        measure_generation(TEXTS, TEXTS[:1], [])
    with pytest.raises(DataError, match="0 texts"):
        measure_texts([], [])
    with pytest.raises(DataError, match="0 texts"):
        measure_autoencoder(tiny_model, [])
