"""Ours and the rivals, opened alike to be compared: what they write, and the arithmetic of writing it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from textcosm.baselines.rival import Rival, is_rival, open_rival, open_subject
from textcosm.errors import ConfigError
from textcosm.evaluation.subject import Subject, of_model
from textcosm.nn.precision import Precision
from textcosm.pipeline import TextDiffusion
from textcosm.text.backbone import open_backbone
from textcosm.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from textcosm.evaluation.rows import Rows


@dataclass(frozen=True)
class System:
    """Something that writes texts, and what writing one takes."""

    name: str
    path: str
    steps: int | None
    """As asked for; None where it is the system's own."""
    refine: int
    """Refinements after the steps (see SamplerConfig)."""
    subject: Subject
    tokenizer: Tokenizer
    max_length: int
    """Tokens of a text at most."""
    embedding: int
    """Parameters of token embeddings and token heads."""
    other: int
    passes: float
    """Runs of the network one after the other, for one text."""
    positions: int
    """Vectors in a run."""
    gflop: float
    """2 x parameters x vectors, over all passes and the way back to text; attention's own products are left out."""
    model: TextDiffusion | None = None
    """Behind a system of ours."""

    @property
    def asked(self) -> str:
        """Its steps and refinements as after an @; "" where the steps are the system's own."""
        return "" if self.steps is None else f"{self.steps}+{self.refine}"

    def write(self, n: int, seed: int) -> list[str]:
        """Its n texts of this seed."""
        return [text for part in self.subject.texts(n, seed) for text in part]

    def tokens(self, texts: Sequence[str]) -> int:
        """Tokens in these texts, in its own vocabulary, start and end included."""
        return _tokens(self.tokenizer, texts, self.max_length)


def open_systems(
    given: Sequence[str],
    steps: Sequence[int],
    device: str | torch.device | None = None,
    references: "Rows | None" = None,
    seed: int = 0,
    precision: Precision = "float32",
    lm_weight: float | None = None,
) -> list[System]:
    """A model of ours at every one of ``steps``, a rival at its own; ``PATH@20`` asks for 20 steps of either, ``PATH@20+4``
    for 4 refinements after them.

    references: hold the sources that what answers sources is given. precision: of our denoisers' matrices, where the
    machine has it. lm_weight: of our n-grams (see SamplerConfig), if not a model's own. Raises ConfigError for two systems of one name.
    """
    models: dict[str, TextDiffusion] = {}
    systems: list[System] = []
    for path, wanted, refine in map(parse, given):
        if is_rival(path):
            if refine:
                raise ConfigError(f"{path} is a rival, which has no refinements: leave +{refine} out")
            systems.append(_rival(path, wanted, device, references, seed))
            continue
        if path not in models:
            models[path] = TextDiffusion.load(path, device)
            models[path].use_precision(precision)
        model = models[path]
        systems += [_ours(model, path, count, refine, references, lm_weight) for count in ([wanted] if wanted else steps)]
    names = [system.name for system in systems]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"two systems are called {min(twice)!r}: give their folders different names")
    return systems


def parse(given: str) -> tuple[str, int | None, int]:
    """``PATH@20+4`` -> the path, 20 and 4; ConfigError where no whole number from 1 up stands after the @ (and after the +)."""
    path, _, asked = given.partition("@")
    wanted, plus, more = asked.partition("+")
    if "@" in given and not (wanted.isdigit() and int(wanted)):
        raise ConfigError(f"{given!r} asks for {asked!r} steps: give a whole number from 1 up after the @")
    if plus and not more.isdigit():
        raise ConfigError(f"{given!r} asks for {more!r} refinements: give a whole number after the +")
    return path, int(wanted) if wanted else None, int(more or 0)


def write_afresh(
    path: str, steps: str, device: str, threads: str, count: str, precision: Precision = "float32"
) -> Iterator[None]:
    """For a fresh process: load the system, write one text, then ``count`` texts in one batch; "" is the default.

    ``steps`` may be as after an @, such as 20+4.
    """
    if threads:
        torch.set_num_threads(int(threads))
    _, wanted, refine = parse(f"{path}@{steps}" if steps else path)
    subject = open_subject(path, steps=wanted, batch_size=int(count), device=device or None)
    if subject is None:
        model = TextDiffusion.load(path, device or None)
        model.use_precision(precision)
        subject = of_model(model, "ours", steps=wanted, refine=refine, batch_size=int(count))
    yield from (None for _ in subject.texts(1, 0))
    list(subject.texts(int(count), 1))


def plain(path: str) -> str:
    """What to call a model: its folder, or the run that its folder ``model`` is in."""
    folder = Path(path).expanduser()
    return folder.resolve().parent.name if folder.name == "model" else folder.name


def without_folders(given: str) -> str:
    """``PATH@20+4`` as a page's command names it."""
    path, at, asked = given.partition("@")
    return f"{plain(path)}{at}{asked}"


def sizes_of(model: TextDiffusion) -> dict[str, int]:
    """Parameters that writing a text uses: the denoiser's, the decompressor's, the token head's."""
    autoencoder = model.autoencoder

    def count(*modules: nn.Module | None) -> int:
        return sum(p.numel() for module in modules if module is not None for p in module.parameters())

    parts = [getattr(autoencoder, name, None) for name in ("from_latents", "decompressor", "narrow")]
    return {"denoiser": count(model.denoiser), "decompressor": count(*parts), "head": count(autoencoder.token_head)}


def _ours(
    model: TextDiffusion, path: str, steps: int, refine: int, references: "Rows | None", lm_weight: float | None
) -> System:
    sizes, autoencoder = sizes_of(model), model.config.autoencoder
    passes = 2 * steps - 1 if model.config.sampler.solver == "heun" else steps
    slots, positions = autoencoder.num_latents, autoencoder.max_length
    head = model.scored_tokens * model.autoencoder.token_head.in_features
    back = positions * (sizes["decompressor"] + head)
    work = passes * slots * sizes["denoiser"] + back
    name = f"{plain(path)}-{steps}"
    if refine:
        name += f"+{refine}"
        passes += refine
        work += refine * (slots * sizes["denoiser"] + back + positions * _way_in(model))
    subject = of_model(model, name, steps=steps, refine=refine, lm_weight=lm_weight, references=references)
    return System(
        name, path, steps, refine, subject, model.tokenizer, positions,
        sizes["head"], sizes["denoiser"] + sizes["decompressor"], passes, slots, 2e-9 * work, model,
    )  # fmt: skip


def _way_in(model: TextDiffusion) -> int:
    """Parameters that a token passes through on its way to the latents: the frozen encoder's and the compressor's."""
    compressor = getattr(model.autoencoder, "compressor", None)
    if model.backbone is None:
        model.use_backbone(open_backbone(model.config.backbone, model.device))  # once: the refinements encode with it
    encoder = getattr(model.backbone, "layer_parameters", 0)
    return encoder + (sum(p.numel() for p in compressor.parameters()) if compressor is not None else 0)


def _rival(
    path: str, steps: int | None, device: str | torch.device | None, references: "Rows | None", seed: int
) -> System:
    rival = open_rival(path, device)
    name = plain(path) if steps is None else f"{plain(path)}-{steps}"
    subject = open_subject(path, steps=steps, device=device, references=references)
    if subject is None:
        raise ConfigError(f"{path} is no rival")  # it was one a moment ago
    embedding, other = rival.parameters["embedding"], rival.parameters["other"]
    passes, positions = _passes(rival, steps, subject, seed)
    work = passes * positions * (embedding + other)
    length = rival.network.config.max_length
    return System(name, path, steps, 0, subject, rival.tokenizer, length, embedding, other, passes, positions, 2e-9 * work)


def _passes(rival: Rival, steps: int | None, subject: Subject, seed: int) -> tuple[float, int]:
    """Runs of a rival's network for a text, and vectors in each: an autoregressive one goes token by token."""
    length = rival.network.config.max_length
    if rival.kind == "masked":
        return float(steps or rival.sampler.steps), length
    texts = [text for part in subject.texts(64, seed) for text in part]
    return _tokens(rival.tokenizer, texts, length) / len(texts), 1


def _tokens(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> int:
    return int(tokenizer.tokenize(list(texts), max_length).mask.sum())
