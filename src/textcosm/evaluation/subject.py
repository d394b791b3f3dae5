"""What is evaluated: a name, a manifest of where its texts come from, and the texts themselves, by number and seed."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from textcosm.diffusion.sampling import SamplerConfig
from textcosm.evaluation.rows import read_rows
from textcosm.pipeline import Reconstruction, TextDiffusion

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


def of_model(
    model: TextDiffusion, name: str, *, steps: int | None = None, solver: str | None = None, batch_size: int = BATCH
) -> Subject:
    """A text diffusion model with its own sampler, in which ``steps`` and ``solver`` may be replaced."""
    sampler = asdict(model.config.sampler)
    sampler |= {key: value for key, value in (("steps", steps), ("solver", solver)) if value is not None}
    config = SamplerConfig(**sampler)
    modules = {"autoencoder": model.autoencoder, "normaliser": model.normaliser, "denoiser": model.denoiser}
    manifest = {
        "name": name,
        "kind": "text diffusion",
        "sha256": fingerprint(modules),
        "parameters": {part: sum(p.numel() for p in modules[part].parameters()) for part in ("autoencoder", "denoiser")},
        "sampler": sampler,
        "ema": model.record.get("recipe", {}).get("diffusion_training", {}).get("ema"),
    }

    def texts(n: int, seed: int) -> Iterator[list[str]]:
        return model.stream(n, seed=seed, batch_size=batch_size, sampler=config)

    return Subject(name, manifest, texts, reconstruct=lambda given: model.reconstruct(given, batch_size))


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
