"""The picture at the top of the README: one text at a few moments between noise and story, as an SVG.

    python runs/emerging.py MODEL docs/emerging.svg --seed 3
"""

import re
from io import StringIO
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.text import Text
from tyro.conf import Positional

from textcosm import Snapshot, TextDiffusion

SHADES = ("grey42", "grey58", "grey74", "grey89", "bold white")


def draw(
    model: Positional[str] = "stories-16",
    out: Positional[Path] = Path("docs/emerging.svg"),
    seed: int = 0,
    steps: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: the model's own)")] = None,
) -> None:
    """Sample one text of ``model``, keep the first, the last and three snapshots between, and write the picture."""
    snapshots = list(TextDiffusion.load(model, "cpu").trace(1, steps=steps, seed=seed))
    console = Console(record=True, width=96, file=StringIO())
    console.print(Text(f"$ textcosm generate -n 1 --seed {seed} --watch", style="green"))
    for shade, snapshot in zip(SHADES, _moments(snapshots), strict=True):
        noise = f"noise {snapshot.noise:.2f}"
        console.print(Text(f"\nstep {snapshot.step:>2} of {snapshot.steps}   {noise}", style="cyan"))
        console.print(Text(snapshot.texts[0], style=shade))
    picture = console.export_svg(title="textcosm")
    out.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), encoding="utf-8")  # fetches no font


def _moments(snapshots: list[Snapshot]) -> list[Snapshot]:
    """Five snapshots, spread evenly over the noise levels: that is where the text changes."""
    levels = [snapshot.noise for snapshot in snapshots]
    high, low = levels[0], levels[-1]
    wanted = [high + (low - high) * k / (len(SHADES) - 1) for k in range(len(SHADES))]
    return [min(snapshots, key=lambda s, w=w: abs(s.noise - w)) for w in wanted[:-1]] + [snapshots[-1]]


if __name__ == "__main__":
    tyro.cli(draw)
