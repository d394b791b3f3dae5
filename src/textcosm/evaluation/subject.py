"""What is evaluated: a name, a manifest of where its texts come from, and the texts themselves, by number and seed."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from textcosm.control.best import check_best
from textcosm.control.mbr import chooser
from textcosm.diffusion.guidance import told_of_sources
from textcosm.evaluation.rows import Rows, read_rows
from textcosm.pipeline import Reconstruction, Sampling, TextDiffusion

BATCH = 64
"""Texts made or handed over at a time."""


@dataclass(frozen=True)
class Subject:
    """Anything that gives texts: a model of ours, a rival, a file."""

    name: str
    manifest: dict[str, Any]
    """Plain JSON that says which texts these are: kind, checksums, parameters, sampler; nothing that changes by itself."""
    texts: Callable[[int, int], Iterator[list[str]]]
    """``texts(n, seed)`` gives n texts in batches, the same ones at every call."""
    sources: Callable[[int, int], list[str]] | None = None
    """For conditional tasks: ``sources(n, seed)`` gives the source of each of these texts, in their order."""
    reconstruct: Callable[[list[str]], list[Reconstruction]] | None = None
    """For what has a latent space: sends texts through it and back. Raises BackboneError where the encoder is missing."""
    notes: Callable[[int, int], list[str]] | None = None
    """``notes(n, seed)``: what a reader must know of these texts."""


def answering(
    name: str,
    manifest: dict[str, Any],
    references: Rows,
    write: Callable[[list[str], int], Iterator[list[str]]],
    reconstruct: Callable[[list[str]], list[Reconstruction]] | None = None,
    remarks: Callable[[list[str]], list[str]] | None = None,
) -> Subject:
    """What answers sources of the ``references``, drawn by seed, all different: a model, a rival, a rule.

    write: ``(sources, seed)`` -> an answer to each, in batches. remarks: what a reader must know, of the same sources.
    """

    def texts(n: int, seed: int) -> Iterator[list[str]]:
        return write(references.draw_sources(n, seed), seed)

    def notes(n: int, seed: int) -> list[str]:
        return remarks(references.draw_sources(n, seed)) if remarks else []

    return Subject(name, manifest, texts, references.draw_sources, reconstruct, notes)


def of_model(
    model: TextDiffusion,
    name: str,
    *,
    references: Rows | None = None,
    steps: int | None = None,
    solver: str | None = None,
    guidance: float | None = None,
    refine: int | None = None,
    lm_weight: float | None = None,
    mbr: int = 1,
    best: int = 1,
    batch_size: int = BATCH,
    remarks: Sequence[str] = (),
) -> Subject:
    """A text diffusion model with its own sampler, in which ``steps``, ``solver``, ``guidance``, ``refine`` and ``lm_weight`` may be replaced.

    A model that reads sources answers those of the ``references``, where these have some; else it writes freely.
    mbr, best: best of so many candidates, by each other or by the model. remarks: what a reader must know besides. Raises ConfigError for settings that cannot be.
    """
    options: Sampling = {
        "steps": steps,
        "solver": solver,
        "guidance": guidance,
        "refine": refine,
        "lm_weight": lm_weight,
        "mbr": mbr,
        "best": best,
        "batch_size": batch_size,
    }
    asked = references if model.reads_sources and references is not None and references.has_targets else None
    if asked is not None:
        options["source"] = ()  # there will be some: the model's own guidance counts
    sampler = model.sampler(options)
    if asked is None:
        told_of_sources(model.denoiser, None, sampler.guidance)
    chooser(mbr)
    check_best(best, mbr)
    manifest = {**_manifest(model, name), "sampler": asdict(sampler), "mbr": mbr}
    if model.precision != "float32":  # which manifests from before there were others do not name
        manifest["precision"] = model.precision
    if best != 1:  # the same
        manifest["best"] = best
    if sampler.lm_weight and model.ngrams is not None:
        manifest["ngrams"] = fingerprint({"ngrams": model.ngrams})

    def reconstruct(given: list[str]) -> list[Reconstruction]:
        return model.reconstruct(given, batch_size)

    def write(source: list[str], seed: int) -> Iterator[list[str]]:
        return model.stream(**options | {"source": source, "seed": seed})

    taught = [*([f"{name} was {sampler.note}."] if sampler.note else []), *remarks]

    def remarks_on(source: list[str]) -> list[str]:
        longer, limit = model.cut_sources(source), model.config.source.max_length
        cut = f"{longer} of {len(source)} sources were longer than {limit} tokens and were cut."
        return [*taught, *([cut] if longer else [])]

    if asked is not None:
        return answering(name, manifest, asked, write, reconstruct, remarks_on)

    def texts(n: int, seed: int) -> Iterator[list[str]]:
        return model.stream(n, **options | {"seed": seed})

    free = [f"{name} answers sources and was given none: it wrote freely."] if model.reads_sources else []
    return Subject(name, manifest, texts, reconstruct=reconstruct, notes=lambda n, seed: [*taught, *free])


def _manifest(model: TextDiffusion, name: str) -> dict[str, Any]:
    modules = {"autoencoder": model.autoencoder, "normaliser": model.normaliser, "denoiser": model.denoiser}
    return {
        "name": name,
        "kind": "text diffusion",
        "sha256": fingerprint(modules),
        "parameters": {part: sum(p.numel() for p in modules[part].parameters()) for part in ("autoencoder", "denoiser")},
        "ema": model.record.get("recipe", {}).get("diffusion_training", {}).get("ema"),
    }


def of_file(path: str | Path, field: str | None = None) -> Subject:
    """Texts that are already there, drawn by seed where fewer are wanted; blank ones stay, to be counted.

    Raises DataError as :func:`textcosm.evaluation.rows.read_rows`, and where more texts are asked for than there are.
    """
    found = read_rows(path, field)
    manifest = {"name": found.name, "kind": "texts", "sha256": found.sha256, "texts": len(found.rows)}

    def texts(n: int, seed: int) -> Iterator[list[str]]:
        drawn = [row.text for row in found.draw(n, seed)]
        return (drawn[start : start + BATCH] for start in range(0, n, BATCH))

    def sources(n: int, seed: int) -> list[str]:
        return [row.source or "" for row in found.draw(n, seed)]

    return Subject(found.name, manifest, texts, sources if found.has_sources else None)


def fingerprint(modules: dict[str, nn.Module]) -> str:
    """sha256 over the names and values of all weights, as loaded: the same on every device and in every folder."""
    digest = hashlib.sha256()
    for part, module in modules.items():
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
