"""Texts emerging from noise: redrawn in place on a terminal, a few plain snapshots elsewhere."""

from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from textcosm.pipeline import Snapshot

PLAIN_SNAPSHOTS = 5
"""Snapshots printed where nothing can be redrawn, the last one included."""


def watched(snapshots: Iterator[Snapshot], console: Console) -> list[str]:
    """Show every snapshot on ``console`` and return the final texts."""
    return (_live if console.is_terminal else _plain)(snapshots, console)


def _live(snapshots: Iterator[Snapshot], console: Console) -> list[str]:
    """Transient: at the end the view vanishes, and the texts come once more, as data."""
    texts: list[str] = []
    with Live(console=console, transient=True, auto_refresh=False, vertical_overflow="ellipsis") as live:
        for snapshot in snapshots:
            live.update(view(snapshot), refresh=True)
            texts = snapshot.texts
    return texts


def _plain(snapshots: Iterator[Snapshot], console: Console) -> list[str]:
    texts: list[str] = []
    for snapshot in snapshots:
        texts = snapshot.texts
        if _is_shown(snapshot):
            print(caption(snapshot), *(f"  {text}" for text in texts), sep="\n", file=console.file, flush=True)
    return texts


def _is_shown(snapshot: Snapshot) -> bool:
    """The first, the last and the nearest to an even spread between them."""
    share = (snapshot.steps - 1) / (PLAIN_SNAPSHOTS - 1)
    return share <= 1 or snapshot.step - 1 in {round(k * share) for k in range(PLAIN_SNAPSHOTS)}


def caption(snapshot: Snapshot) -> str:
    return f"step {snapshot.step:>3} of {snapshot.steps}   noise {snapshot.noise:.2f}"


def view(snapshot: Snapshot) -> Group:
    """A bar, the caption, and the texts, dim in the measure of the noise."""
    style = "dim" if snapshot.noise > 0.7 else "" if snapshot.step < snapshot.steps else "bold"
    bar = ProgressBar(total=snapshot.steps, completed=snapshot.step, width=40)
    texts = [Text(text or "…", style=style) for text in snapshot.texts]
    return Group(bar, Text(caption(snapshot), style="cyan"), *(row for text in texts for row in (Text(), text)))
