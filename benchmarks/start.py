"""How fast the autoencoder learns from each start: the published initialisation beside the local one, in one run.

    python benchmarks/start.py TRAIN.jsonl --out runs/out/start --steps 100

Same data, sizes, batches, perturbations and optimiser; the table shows held-out token accuracy at each validation.
Half an hour on two CPU cores at the defaults. The same command goes on where it stopped.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import tyro
from tyro.conf import Positional

from textcosm import PRESETS, Recipe, train

STARTS = ("published", "local")


def main(data: Positional[str], out: Path, steps: int = 100, batch_size: int = 64, preset: str = "stories-16") -> None:
    """Train the autoencoder of ``preset`` for ``steps`` from each start and print the comparison as Markdown."""
    curves = {}
    for start in STARTS:
        recipe = _recipe(PRESETS[preset].recipe, start, steps, batch_size)
        folder = out / start
        train(recipe, data, folder, "autoencoder", cache=out / "cache", report=lambda step: print(step, file=sys.stderr))
        curves[start] = _curve(folder / "autoencoder" / "journal.jsonl")
    print("| step | " + " | ".join(f"{start}: accuracy (alignment error under perturbation)" for start in STARTS) + " |")
    print("|---|---|---|")
    for step in sorted(set.intersection(*map(set, curves.values()))):
        print(f"| {step} | " + " | ".join(f"{a:.3f} ({e:.2f})" for a, e in (curves[s][step] for s in STARTS)) + " |")


def _recipe(recipe: Recipe, start: str, steps: int, batch_size: int) -> Recipe:
    model = replace(recipe.model, autoencoder=replace(recipe.model.autoencoder, init=start))
    every = max(1, steps // 5)
    fit = replace(
        recipe.autoencoder_training, steps=steps, batch_size=batch_size, log_every=every, valid_every=every
    )
    return replace(recipe, model=model, autoencoder_training=fit)


def _curve(journal: Path) -> dict[int, tuple[float, float]]:
    lines = map(json.loads, journal.read_text(encoding="utf-8").splitlines())
    return {line["step"]: (line["valid_accuracy"], line["alignment"]) for line in lines if "valid_accuracy" in line}


if __name__ == "__main__":
    tyro.cli(main)
