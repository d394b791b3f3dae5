"""What a number depends on, as plain JSON: checksums, settings, versions, the machine."""

import platform
from importlib import metadata
from typing import Any

import torch

import textcosm
from textcosm.evaluation.judges import Judge
from textcosm.evaluation.rows import Rows

PACKAGES = (
    "torch", "numpy", "transformers", "mauve-text", "faiss-cpu", "scikit-learn", "sacrebleu", "rouge-score",
    "torchmetrics", "alt-profanity-check",
)  # fmt: skip
"""Whose versions can change a number."""


def versions() -> dict[str, str]:
    """Package -> version, of those installed."""
    found = {"textcosm": textcosm.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine(device: str | torch.device) -> dict[str, Any]:
    """What computes: the GPU's name, or the processor's kind and the threads, which sums are split over."""
    device = torch.device(device)
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device)}
    return {"device": f"{platform.machine()} {device.type}", "threads": torch.get_num_threads()}


def data(rows: Rows) -> dict[str, Any]:
    return {"name": rows.name, "sha256": rows.sha256, "texts": len(rows.rows)}


def judged_by(judge: Judge | None) -> dict[str, str] | None:
    return None if judge is None else {"name": judge.name, "fingerprint": judge.fingerprint}
