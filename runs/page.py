"""A study's page in docs/: a few sentences, the table, the plot and the command that made them."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textcosm.checkpoint import whole_file
from textcosm.errors import ConfigError

WRAP = 120
PANEL = (4.6, 3.4)
"""Inches of one panel of a plot."""
KEPT = re.compile(r"<!-- by hand -->.*?<!-- end -->", re.DOTALL)
"""What a page says between these marks stays, after its first paragraph, when the page is written anew."""


@dataclass(frozen=True)
class Line:
    """One curve: ``y`` over ``x``, with intervals (low, high) where they are known."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    intervals: Sequence[tuple[float, float]] = ()
    joined: bool = True
    """False shows the points alone."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes and what is drawn in it."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False


def write_page(
    folder: Path, name: str, title: str, said: Sequence[str], tables: Sequence[str], panels: Iterable[Panel], command: str
) -> Path:
    """Write ``folder/name.md`` and ``folder/name.svg``; panels without a curve are left out, what is ``KEPT`` stays."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{name}.md"
    kept = KEPT.findall(page.read_text(encoding="utf-8")) if page.exists() else []
    panels = [panel for panel in panels if any(line.x for line in panel.lines)]
    first, *others = (textwrap.fill(paragraph, WRAP) for paragraph in said)
    parts = [f"# {title}", first, *kept, *others, *filter(None, tables)]
    if panels:
        draw(folder / f"{name}.svg", panels)
        parts.append(f"![{title}]({name}.svg)")
    parts.append(f"```bash\n{command}\n```")
    with whole_file(page) as file:
        file.write("\n\n".join(parts) + "\n")
    return page


def shown(found: Mapping[str, float] | None, digits: int = 3) -> str:
    """An interval's dictionary as ``value [low, high]``; a dash where nothing could be measured."""
    if found is None:
        return "-"
    return f"{found['value']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def curve(label: str, points: Sequence[tuple[float, Mapping[str, float] | None]], joined: bool = True) -> Line:
    """A line through the points that were measured: ``(x, interval's dictionary or None)``."""
    there = [(x, found) for x, found in points if found is not None]
    values = [found["value"] for _, found in there]
    return Line(label, [x for x, _ in there], values, [(found["low"], found["high"]) for _, found in there], joined)


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """The panels side by side as an SVG, the same bytes for the same numbers."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a plot needs matplotlib, which is not installed: pip install 'textcosm[eval]'") from error
    columns = 2 if len(panels) == 4 else min(3, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.rc_context({"svg.hashsalt": "textcosm", "font.size": 8}):
        figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * rows), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        for place, panel in enumerate(panels, start=1):
            _draw_panel(figure.add_subplot(rows, columns, place), panel)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_panel(axes: Any, panel: Panel) -> None:
    for line in panel.lines:
        if not line.x:
            continue
        (drawn,) = axes.plot(line.x, line.y, "o-" if line.joined else "o", markersize=3, linewidth=1.2, label=line.label)
        if line.intervals:
            low, high = zip(*line.intervals, strict=True)
            axes.vlines(line.x, low, high, color=drawn.get_color(), linewidth=0.8, alpha=0.6)
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis, is_log, scale in ((axes.xaxis, panel.log_x, axes.set_xscale), (axes.yaxis, panel.log_y, axes.set_yscale)):
        if is_log:  # 0.1, 0.2, 0.5, 1, or 0.1, 1, 10: few enough to stand side by side
            scale("log")
            low, high = axis.get_view_interval()
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 1000 * low else (1.0,)))
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.legend(fontsize=6, frameon=False)
