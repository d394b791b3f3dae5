"""A classifier of latents, fitted in seconds: what it has learned to tell apart, it can also guide towards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from textcosm.checkpoint import load_states, save_states
from textcosm.control.gradient import ByGradient
from textcosm.control.rewrite import Accept
from textcosm.errors import CheckpointError, ConfigError, DataError
from textcosm.latent.normaliser import Normaliser
from textcosm.shapes import Latents

NOT = "not:"
"""Before a label: any other one."""
PENALTY = 0.01
"""sklearn's C, the inverse of the ridge: a text's latents have thousands of numbers, and labelled texts are few."""
HELD_OUT = 5
"""Every fifth text is kept out of the fit, to be counted."""


@dataclass(frozen=True)
class Probe:
    """Logistic regression on a text's normalised latents: ``weight`` (labels, N x width), ``bias`` (labels,)."""

    labels: tuple[str, ...]
    weight: Float[Tensor, "labels features"]
    bias: Float[Tensor, " labels"]
    space: str
    """Of which latents: see :func:`space_of`."""

    def log_probabilities(self, latents: Latents) -> Float[Tensor, "batch labels"]:
        """Of every label."""
        scores = latents.flatten(1) @ self.weight.to(latents).T + self.bias.to(latents)
        return scores.log_softmax(-1)

    def check(self, normaliser: Normaliser) -> None:
        """Raises ConfigError for the latents of another model."""
        if space_of(normaliser) != self.space:
            raise ConfigError("the probe was made with another model's latents: make one with this model (textcosm probe)")

    def guide(self, label: str, scale: float = 1.0) -> ByGradient:
        """A guide towards texts of this label, or with ``not:LABEL`` or a negative scale away from it."""
        wanted = self._wanted(label)
        return ByGradient(lambda latents: self.log_probabilities(latents)[:, wanted].logsumexp(-1), scale)

    def accept(self, label: str, encode: Callable[[list[str]], Latents]) -> Accept:
        """Whether texts are more likely of this label than not (with ``not:LABEL``, than of it), by their latents."""
        wanted = self._wanted(label)
        return lambda texts: (self.log_probabilities(encode(texts))[:, wanted].exp().sum(-1) > 0.5).tolist()

    def _wanted(self, label: str) -> list[int]:
        name = label.removeprefix(NOT)
        if name not in self.labels:
            raise ConfigError(f"the probe knows no label {name!r}; it knows {', '.join(self.labels)}")
        here = self.labels.index(name)
        others = [i for i in range(len(self.labels)) if i != here]
        return others if label.startswith(NOT) else [here]

    def save(self, directory: str | Path) -> None:
        """Safetensors and JSON, whole or not at all."""
        metadata = {"probe": {"labels": list(self.labels), "space": self.space}}
        save_states(directory, {"probe": {"weight": self.weight, "bias": self.bias}}, metadata)

    @classmethod
    def load(cls, directory: str | Path) -> "Probe":
        """What :meth:`save` wrote; raises CheckpointError for anything else."""
        found = load_states(Path(directory).expanduser())
        try:
            meta, state = found.metadata["probe"], found.states["probe"]
            return cls(tuple(meta["labels"]), state["weight"], state["bias"], meta["space"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{directory} is no probe ({error} is missing): make one with textcosm probe") from error


def space_of(normaliser: Normaliser) -> str:
    """A short hash of the latents' statistics, which two training runs do not share."""
    state = normaliser.state_dict()
    digest = blake2b(digest_size=8)
    for name in sorted(state):
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def fit_probe(latents: Latents, labels: Sequence[str], space: str, seed: int = 0) -> tuple[Probe, float]:
    """The probe of these texts, and the share of the held-out ones (a fifth, drawn by ``seed``) that it gets right.

    Raises DataError for fewer than two labels, or too few texts of one; ConfigError where scikit-learn is missing.
    """
    names = sorted(set(labels))
    if len(names) < 2:
        raise DataError(f"all texts have the label {names[0]!r}: a probe tells at least 2 apart" if names else "there are no texts")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).tolist()
    fitted = [i for place, i in enumerate(order) if place % HELD_OUT]
    held_out = [i for place, i in enumerate(order) if not place % HELD_OUT]
    if missing := set(names) - {labels[i] for i in fitted}:
        raise DataError(f"too few texts have the label {min(missing)!r}: give at least 5 of each")
    classifier = _regression()
    features = latents.flatten(1).cpu().numpy()
    classifier.fit(features[fitted], [labels[i] for i in fitted])
    weight = torch.from_numpy(classifier.coef_).float()
    bias = torch.from_numpy(classifier.intercept_).float()
    if len(names) == 2:  # sklearn keeps the second label's score alone; the first one's is 0
        weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])
    probe = Probe(tuple(str(name) for name in classifier.classes_), weight, bias, space)
    guessed = probe.log_probabilities(latents[held_out].cpu()).argmax(-1).tolist()
    return probe, sum(probe.labels[g] == labels[i] for g, i in zip(guessed, held_out, strict=True)) / len(held_out)


def _regression():
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ConfigError("a probe needs scikit-learn, which is not installed: pip install 'textcosm[eval]'") from error
    return LogisticRegression(C=PENALTY, max_iter=500)
