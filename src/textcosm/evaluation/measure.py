"""Measure a model of ours: how well it reconstructs, how smooth its latents are, and what its new texts are worth."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from textcosm.errors import DataError
from textcosm.evaluation.judges import Judge, Perplexity, perplexity
from textcosm.evaluation.metrics import (
    WrittenForm,
    bleu,
    copies,
    diversity_interval,
    memorisation,
    sentence_count,
    words,
    written_form,
)
from textcosm.evaluation.results import Interval, Result, bootstrap_mean, bootstrap_ratio
from textcosm.pipeline import TextDiffusion
from textcosm.shapes import Latents

SIGMAS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Noise on normalised latents (as in the robustness figure of arXiv 2506.21170); 0 is plain reconstruction."""


# ---------------------------------------------------------------- autoencoder


@dataclass(frozen=True)
class Compression(Result):
    """How much shorter the latents are than the text, in vectors."""

    latents: int
    positions: int
    tokens_per_text: float
    """Mean, start and end tokens included, after cutting."""
    cut: int
    """Texts longer than ``positions`` tokens."""

    @property
    def nominal(self) -> float:
        """positions / latents."""
        return self.positions / self.latents

    @property
    def real(self) -> float:
        """Mean tokens of a text / latents."""
        return self.tokens_per_text / self.latents


@dataclass(frozen=True)
class UnderNoise(Result):
    """BLEU against the original texts when normalised latents get Gaussian noise of standard deviation ``sigma``."""

    sigma: float
    bleu: Interval


@dataclass(frozen=True)
class AutoencoderResult(Result):
    """What :func:`measure_autoencoder` finds."""

    texts: int
    compression: Compression
    token_accuracy: Interval
    """Share of all tokens that come back, each in its place."""
    whole_texts: Interval
    """Share of texts all of whose tokens come back."""
    written_form: WrittenForm
    under_noise: tuple[UnderNoise, ...]


def measure_autoencoder(
    model: TextDiffusion,
    texts: Sequence[str],
    sigmas: Sequence[float] = SIGMAS,
    noise_texts: int = 500,
    batch_size: int = 64,
    seed: int = 0,
) -> AutoencoderResult:
    """Reconstruct ``texts``, then decode the latents of the first ``noise_texts`` of them under noise.

    Token accuracy is over all tokens of all texts; BLEU compares with the texts as they were written, case and spacing
    included. Needs the encoder. Raises DataError for an empty list.
    """
    if not texts:
        raise DataError("cannot measure 0 texts: give at least 1")
    positions = model.config.autoencoder.max_length
    batch = model.tokenizer.tokenize(list(texts), positions)
    lengths = batch.mask.sum(dim=1).tolist()
    found = model.reconstruct(texts, batch_size=batch_size)
    latents = model.encode(texts[:noise_texts], batch_size=batch_size)
    return AutoencoderResult(
        texts=len(texts),
        compression=Compression(latents.shape[1], positions, statistics.fmean(lengths), batch.cut),
        token_accuracy=bootstrap_ratio([r.token_accuracy * n for r, n in zip(found, lengths, strict=True)], lengths),
        whole_texts=bootstrap_mean(r.token_accuracy == 1 for r in found),
        written_form=written_form([r.reconstruction for r in found], texts),
        under_noise=tuple(measure_under_noise(model, latents, texts[:noise_texts], sigmas, seed)),
    )


def measure_under_noise(
    model: TextDiffusion, latents: Latents, texts: Sequence[str], sigmas: Sequence[float] = SIGMAS, seed: int = 0
) -> list[UnderNoise]:
    """BLEU of ``decode(latents + sigma * noise)`` against ``texts``; the same noise, scaled, at every sigma."""
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed)).to(latents)
    return [UnderNoise(sigma, bleu(model.decode(latents + sigma * noise), texts)) for sigma in sigmas]


# ---------------------------------------------------------------- generation


@dataclass(frozen=True)
class TextsResult(Result):
    """What can be said of a set of texts, generated or real."""

    texts: int
    words_per_text: float
    """Words and punctuation marks."""
    sentences_per_text: float
    diversity: Interval
    """Div; falls with the number of texts, so compare equal numbers only."""
    memorised: Interval
    """Mem: share of 4-grams that occur in the training texts."""
    copies: int
    """Texts that are a training text word for word."""
    perplexity: Perplexity | None
    """None where no judge was given."""


@dataclass(frozen=True)
class GenerationResult(Result):
    """Generated texts beside as many real ones, measured alike."""

    generated: TextsResult
    real: TextsResult
    diversity_ratio: float
    """Div of the generated texts over that of the real ones: 1 is as diverse as real text."""
    perplexity_ratio: float | None
    """Judge perplexity (trimmed mean) of the generated texts over that of the real ones."""


def measure_texts(
    texts: Sequence[str], training_texts: Iterable[str], judge: Judge | None = None, cache: Path | None = None
) -> TextsResult:
    """Diversity, memorisation, copies and judge perplexity of ``texts``; what the judge reads is kept in ``cache``.

    Raises DataError for an empty list.
    """
    if not texts:
        raise DataError("cannot measure 0 texts: give at least 1")
    training_texts = list(training_texts)
    return TextsResult(
        texts=len(texts),
        words_per_text=statistics.fmean(len(words(text)) for text in texts),
        sentences_per_text=statistics.fmean(sentence_count(text) for text in texts),
        diversity=diversity_interval(texts),
        memorised=memorisation(texts, training_texts),
        copies=copies(texts, training_texts),
        perplexity=None if judge is None else perplexity(judge.name, judge.read(texts, cache=cache).costs),
    )


def measure_generation(
    texts: Sequence[str],
    references: Sequence[str],
    training_texts: Iterable[str],
    judge: Judge | None = None,
    cache: Path | None = None,
) -> GenerationResult:
    """Measure generated ``texts`` beside the same number of real ``references`` (texts that were not trained on).

    Raises DataError when there are fewer references than texts: diversity falls with the number of texts.
    """
    if len(references) < len(texts):
        raise DataError(
            f"{len(texts)} texts need as many references and {len(references)} were given: "
            "generate fewer texts or give more references"
        )
    training_texts = list(training_texts)
    generated = measure_texts(texts, training_texts, judge, cache)
    real = measure_texts(references[: len(texts)], training_texts, judge, cache)
    return GenerationResult(
        generated=generated,
        real=real,
        diversity_ratio=generated.diversity.value / max(real.diversity.value, 1e-12),
        perplexity_ratio=_perplexity_ratio(generated.perplexity, real.perplexity),
    )


def _perplexity_ratio(generated: Perplexity | None, real: Perplexity | None) -> float | None:
    return generated.trimmed.value / real.trimmed.value if generated and real else None
