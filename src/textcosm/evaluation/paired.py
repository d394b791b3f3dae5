"""Metrics of texts that answer something: beside references, as in summarisation, or beside sources, as in detoxification."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.classifiers import open_classifier
from textcosm.evaluation.judges import Judge, Surprise
from textcosm.evaluation.metrics import References, Rouge, bleu, reference_lists, rouge, rouge_of_each
from textcosm.evaluation.results import Interval, Result, bootstrap_mean
from textcosm.text.backbone import DEFAULT, Backbone, BackboneConfig, open_backbone

Encoder = str | Path | Backbone
"""A sentence encoder: "all-MiniLM-L6-v2" (from its PyPI package), a folder, a hub name, or an open one."""
TOXIC = ("toxic", "toxicity", "hate", "offensive", "profane")
FLUENT = ("acceptable", "grammatical", "fluent")
"""What classifiers call the label that is asked for."""
BATCH = 32


@dataclass(frozen=True)
class Scorers:
    """The models behind the metrics. Values are comparable under the same ones only.

    encoder: reads for BERTScore and similarity, its last layer; None is all-MiniLM-L6-v2.
    toxicity: a sequence classifier (folder or hub name); None is the package alt-profanity-check.
    fluency: a sequence classifier of acceptability (folder or hub name); None leaves it to the ``judge``.
    toxic_label, fluent_label: the classifiers' labels, where their names do not tell (``LABEL_1``).
    judge: see :func:`fluency`; ``cache`` is the folder of its readings.
    device: of what is opened here; an open encoder and a judge stay where they are.
    """

    encoder: Encoder | None = None
    toxicity: str | None = None
    toxic_label: str | None = None
    fluency: str | None = None
    fluent_label: str | None = None
    judge: Judge | None = None
    cache: Path | None = None
    device: str = "cpu"

    @property
    def names(self) -> dict[str, str]:
        """What scores what, for tables and manifests."""
        encoder = getattr(self.encoder, "name", self.encoder or DEFAULT)
        ratio = f"perplexity of the source / of the text, judge {self.judge.name}" if self.judge else "none"
        return {
            "encoder": f"{encoder}, last layer",
            "toxicity": self.toxicity or "alt-profanity-check",
            "fluency": self.fluency or ratio,
        }


# ---------------------------------------------------------------- beside references


def bertscore(
    texts: Sequence[str], references: References, encoder: Encoder | None = None, device: str = "cpu"
) -> Interval:
    """BERTScore F1 (torchmetrics; arXiv 1904.09675), the best of a text's references, mean over texts.

    Of the encoder's last layer; no idf weights, no rescaling with a baseline. Texts are cut at what the encoder reads;
    an empty one scores 0. Raises DataError for a text without a reference, ConfigError without torchmetrics.
    """
    several = reference_lists(texts, references)
    score = _bert_scorer(_opened(encoder, device))
    pairs = zip(texts, several, strict=True)
    return bootstrap_mean(max(score(text, reference) for reference in mine) for text, mine in pairs)


def _bert_scorer(encoder: Backbone) -> Callable[[str, str], float]:
    try:
        from torchmetrics.functional.text.bert import bert_score
    except ImportError as error:
        raise ConfigError(
            "BERTScore needs torchmetrics, which is not installed: pip install 'textcosm[eval]'"
        ) from error

    def read(_: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return encoder.encode(batch["input_ids"], batch["attention_mask"].bool()).cpu()

    def score(text: str, reference: str) -> float:
        # One pair a call: of several pairs torchmetrics (1.9) sorts each side by length and does not put the two back in
        # the same order, so it would score texts against the references of others (its issue 2728).
        sides = [_tokens(encoder, each) for each in (text, reference)]
        return float(bert_score(*sides, model=_Stand(), user_forward_fn=read)["f1"])  # type: ignore[arg-type]

    return score


class _Stand(nn.Module):
    """Takes the place of the model that torchmetrics would load and look at; the encoder reads in its stead."""

    class config:
        num_hidden_layers = 0


def _tokens(encoder: Backbone, text: str) -> dict[str, Tensor]:
    batch = encoder.tokenize([text], encoder.max_tokens)
    return {"input_ids": batch.tokens, "attention_mask": batch.mask.long()}


def _opened(encoder: Encoder | None, device: str) -> Backbone:
    if encoder is None or isinstance(encoder, (str, Path)):
        return open_backbone(BackboneConfig(str(encoder or DEFAULT)), device)
    return encoder


# ---------------------------------------------------------------- beside sources


def similarity(
    texts: Sequence[str], sources: Sequence[str], encoder: Encoder | None = None, device: str = "cpu"
) -> np.ndarray:
    """(texts,) cosines from -1 to 1 of each text's sentence embedding with its source's.

    An embedding is the mean of the last layer over all tokens, start and end included, as sentence-transformers makes
    all-MiniLM-L6-v2's. (ParaDetox took a model of Wieting et al., 2019: its numbers are not comparable.)
    """
    _one_each(texts, sources)
    opened = _opened(encoder, device)
    return F.cosine_similarity(_embed(opened, texts), _embed(opened, sources)).double().numpy()


def _embed(encoder: Backbone, texts: Sequence[str]) -> Tensor:
    """(texts, width)."""
    found = [torch.empty(0, encoder.width)]
    for start in range(0, len(texts), BATCH):
        batch = encoder.tokenize(list(texts[start : start + BATCH]), encoder.max_tokens)
        hidden = encoder.encode(batch.tokens, batch.mask).cpu()
        mask = batch.mask[:, :, None]
        found.append(torch.where(mask, hidden, 0).sum(dim=1) / mask.sum(dim=1))
    return torch.cat(found)


def toxicity(
    texts: Sequence[str], classifier: str | None = None, label: str | None = None, device: str = "cpu"
) -> np.ndarray:
    """(texts,) probabilities of being toxic: of alt-profanity-check, or of a sequence classifier (folder or hub name).

    ``label`` is the classifier's label where its name does not tell. Raises ConfigError where either is missing.
    """
    if classifier is not None:
        return open_classifier(classifier, TOXIC, label, device).probabilities(texts)
    try:
        from profanity_check import predict_prob
    except ImportError as error:
        raise ConfigError(
            "toxicity needs alt-profanity-check, which is not installed: pip install 'textcosm[eval]'"
        ) from error
    return predict_prob(list(texts)) if texts else np.empty(0)


def fluency(
    texts: Sequence[str],
    sources: Sequence[str] | None = None,
    *,
    classifier: str | None = None,
    label: str | None = None,
    judge: Judge | None = None,
    cache: Path | None = None,
    device: str = "cpu",
) -> np.ndarray:
    """(texts,) fluencies from 0 to 1.

    With a ``classifier`` of acceptability (folder or hub name), 1 where it gives its label half the probability or
    more, else 0: so ParaDetox does with a classifier of CoLA. Else from a ``judge``: the perplexity of the source over
    that of the text, at most 1; a text without tokens has 0. That is relative to the judge and to how fluent the source
    is, and not comparable with published numbers.
    """
    if classifier is not None:
        return (open_classifier(classifier, FLUENT, label, device).probabilities(texts) >= 0.5).astype(float)
    if judge is None:
        raise ConfigError("fluency is judged by nobody: give a judge, or a classifier of acceptability")
    if sources is None:
        raise DataError("a judge's fluency compares with sources and there are none: give them, or a classifier")
    _one_each(texts, sources)
    pairs = zip(judge.read(texts, cache=cache).costs, judge.read(sources, cache=cache).costs, strict=True)
    return np.array([_ratio(text, source, number) for number, (text, source) in enumerate(pairs, start=1)])


def _ratio(text: Surprise | None, source: Surprise | None, number: int) -> float:
    """min(1, perplexity of the source / of the text), from logarithms, which do not overflow."""
    if source is None:
        raise DataError(f"source {number} is empty: fluency compares with its perplexity; leave the pair out")
    if text is None:
        return 0.0
    return float(np.exp(min(0.0, source.nats / source.tokens - text.nats / text.tokens)))


# ---------------------------------------------------------------- detoxification


@dataclass(frozen=True)
class Detoxification(Result):
    """How well toxic sources were rewritten: means over texts, from 0 to 1."""

    texts: int
    style_accuracy: Interval
    """Share of the texts that are not toxic (probability below a half)."""
    similarity: Interval
    fluency: Interval
    joint: Interval
    """Mean of each text's own product of the three."""
    scorers: dict[str, str]


def detoxification(texts: Sequence[str], sources: Sequence[str], scorers: Scorers | None = None) -> Detoxification:
    """The protocol of ParaDetox (ACL 2022, 2022.acl-long.469) with the scorers given, which need a judge or a classifier
    for fluency: style accuracy, similarity to the source, fluency, and the joint score J."""
    scorers = scorers or Scorers()
    found = paired_metrics(texts, None, sources, ("style_accuracy", "similarity", "fluency", "joint"), scorers)
    return Detoxification(texts=len(texts), scorers=scorers.names, **found)


# ---------------------------------------------------------------- all by name


def paired_metrics(
    texts: Sequence[str],
    references: References | None,
    sources: Sequence[str] | None,
    wanted: Sequence[str],
    scorers: Scorers | None = None,
) -> dict[str, Interval]:
    """The metrics ``wanted``, by name (see :data:`METRICS`), each a mean over texts (BLEU: of the corpus).

    Raises as :func:`check_metrics`, and DataError where the lists differ in length or are empty.
    """
    scorers = scorers or Scorers()
    check_metrics(wanted, references is not None, sources is not None, scorers)
    if not texts:
        raise DataError("cannot measure 0 texts: give at least 1")
    if sources is not None:
        _one_each(texts, sources)
    several = None if references is None else reference_lists(texts, references)
    scores = _Scores(texts, several, sources, scorers)
    return {name: METRICS[name](scores) for name in wanted}


def metric_of_each(
    texts: Sequence[str],
    references: References | None,
    sources: Sequence[str] | None,
    metric: str,
    scorers: Scorers | None = None,
) -> np.ndarray:
    """(texts,) values of one metric that each text has by itself: one of :data:`OF_EACH`. Raises as paired_metrics."""
    scorers = scorers or Scorers()
    if metric not in OF_EACH:
        raise ConfigError(f"a text by itself has no {metric!r}: choose from {', '.join(OF_EACH)}")
    check_metrics([metric], references is not None, sources is not None, scorers)
    if metric == "rougeL":
        return np.array(rouge_of_each(texts, references or [])[2])
    return np.asarray(getattr(_Scores(texts, references, sources, scorers), metric))


def check_metrics(wanted: Sequence[str], references: bool, sources: bool, scorers: Scorers | None = None) -> None:
    """Whether there is what the metrics ``wanted`` need, before any work.

    Raises ConfigError for an unknown name and for fluency that nobody judges, DataError for missing references or sources.
    """
    scorers = scorers or Scorers()
    unknown = [name for name in wanted if name not in METRICS]
    if unknown:
        raise ConfigError(f"unknown metric {unknown[0]!r}: choose from {', '.join(METRICS)}")
    fluent = [name for name in wanted if name in ("fluency", "joint")]
    if fluent and scorers.fluency is None and scorers.judge is None:
        raise ConfigError(f"{fluent[0]} needs a judge of fluency: give a judge, or a classifier of acceptability")
    needs = {"similarity", "joint"} | (set() if scorers.fluency else {"fluency"})
    for given, kind, names in ((references, "references", OF_REFERENCES), (sources, "sources", needs)):
        lacking = [name for name in wanted if name in names and not given]
        if lacking:
            raise DataError(f"{lacking[0]} compares texts with {kind} and there are none: give one for each text")


class _Scores:
    """What the metrics are made from, each computed once and only if asked for."""

    def __init__(self, texts: Sequence[str], references: Any, sources: Any, scorers: Scorers):
        self.texts, self.references, self.sources, self.scorers = texts, references, sources, scorers

    @cached_property
    def encoder(self) -> Backbone:
        return _opened(self.scorers.encoder, self.scorers.device)

    @cached_property
    def rouge(self) -> Rouge:
        return rouge(self.texts, self.references)

    @cached_property
    def toxicity(self) -> np.ndarray:
        return toxicity(self.texts, self.scorers.toxicity, self.scorers.toxic_label, self.scorers.device)

    @cached_property
    def style_accuracy(self) -> np.ndarray:
        return (self.toxicity < 0.5).astype(float)

    @cached_property
    def similarity(self) -> np.ndarray:
        return similarity(self.texts, self.sources, self.encoder)

    @cached_property
    def fluency(self) -> np.ndarray:
        models = self.scorers
        return fluency(
            self.texts, self.sources, classifier=models.fluency, label=models.fluent_label, judge=models.judge,
            cache=models.cache, device=models.device,
        )  # fmt: skip

    @property
    def joint(self) -> np.ndarray:
        return self.style_accuracy * self.similarity * self.fluency


METRICS: dict[str, Callable[[_Scores], Interval]] = {
    "rouge1": lambda scores: scores.rouge.rouge1,
    "rouge2": lambda scores: scores.rouge.rouge2,
    "rougeL": lambda scores: scores.rouge.rougeL,
    "bleu": lambda scores: bleu(scores.texts, scores.references),
    "bertscore": lambda scores: bertscore(scores.texts, scores.references, scores.encoder),
    "toxicity": lambda scores: bootstrap_mean(scores.toxicity),
    "style_accuracy": lambda scores: bootstrap_mean(scores.style_accuracy),
    "similarity": lambda scores: bootstrap_mean(scores.similarity),
    "fluency": lambda scores: bootstrap_mean(scores.fluency),
    "joint": lambda scores: bootstrap_mean(scores.joint),
}
"""Every metric of :func:`paired_metrics`; ``toxicity`` alone is better when it is lower."""
OF_EACH = ("rougeL", "toxicity", "style_accuracy", "similarity", "fluency", "joint")
OF_REFERENCES = ("rouge1", "rouge2", "rougeL", "bleu", "bertscore")


def _one_each(texts: Sequence[str], sources: Sequence[str]) -> None:
    if len(texts) != len(sources):
        raise DataError(f"{len(texts)} texts cannot be compared with {len(sources)} sources: give one for each")
