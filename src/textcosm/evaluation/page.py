"""Reports as pages: one HTML file each that needs nothing else, with its plots inside, for light and dark screens."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textcosm.checkpoint import whole_file
from textcosm.errors import ConfigError
from textcosm.evaluation.compare import Comparison
from textcosm.evaluation.report import PAGE_FILE, Report, label, shown
from textcosm.evaluation.results import flat

TEMPLATES = Path(__file__).parent / "templates"
OURS, THEIRS = "#2f7fd0", "#e08a1e"
"""Generated and reference, told apart on light and on dark ground, and by readers who do not see red or green."""
INK = "#010203"
"""Stands for the page's own text colour until the plot is inside the page."""


def save_page(report: Report, folder: Path) -> Path:
    """Write ``report.html`` beside the report's JSON; returns its path."""
    page = report_page(report)
    with whole_file(folder.expanduser() / PAGE_FILE) as file:
        file.write(page)
    return folder / PAGE_FILE


def report_page(report: Report) -> str:
    """The page of one report."""
    judge = report.manifest.get("judge")
    return _render("report.html.jinja", report=report, judge=judge, plots=list(plots(report)), **_SHOWN)


def comparison_page(comparison: Comparison) -> str:
    """The page of a comparison: its table, and where the manifests differ."""
    return _render("comparison.html.jinja", comparison=comparison, **_SHOWN)


def _rows(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, "none" if value is None else str(value)) for name, value in flat(values)]


_SHOWN = {"label": label, "shown": shown, "rows": _rows, "ours": OURS, "theirs": THEIRS}


def _render(template: str, **values: Any) -> str:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError as error:
        raise ConfigError("a page needs jinja2, which is not installed: pip install 'textcosm[eval]'") from error
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(**values)


# ---------------------------------------------------------------- plots


def plots(report: Report) -> Iterator[tuple[str, str]]:
    """Caption and inline SVG of each plot that the report has numbers for."""
    for name, caption, scale in (
        ("perplexity", "Perplexity of each text (log scale)", "log"),
        ("words", "Words in each text", "linear"),
    ):
        ours, theirs = (_numbers(side.get(name, [])) for side in (report.per_text, report.reference_per_text))
        if len(ours):
            yield caption, _drawn(lambda axes, o=ours, t=theirs, s=scale: _histogram(axes, o, t, s))
    if len(report.mauve_draws) > 1:
        yield "MAUVE of each draw, their mean and its interval", _drawn(lambda axes: _draws(axes, report), height=1.3)


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([value for value in values if value is not None], dtype=np.float64)


def _histogram(axes: Any, ours: np.ndarray, theirs: np.ndarray, scale: str) -> None:
    """Outlines, so that neither side hides the other; the few texts beyond the 99.5 % quantile fall in the last bin."""
    everything = np.concatenate([ours, theirs])
    top = np.quantile(everything, 0.995)
    if scale == "log":
        low = max(everything.min(), 1.0)
        edges = np.geomspace(low, max(top, low * 1.1), 41)
    else:
        edges = np.linspace(everything.min(), max(top, everything.min() + 1), 41)
    for values, colour, name in ((theirs, THEIRS, "references"), (ours, OURS, "generated")):
        kept = np.clip(values, edges[0], edges[-1])
        axes.hist(kept, edges, histtype="stepfilled", facecolor=(colour, 0.25), edgecolor=colour, linewidth=1.4, label=name)
    axes.set_xscale(scale)
    if scale == "log":
        _plain_ticks(axes)
    axes.set_ylabel("texts")
    axes.legend(frameon=False, labelcolor=INK)


def _plain_ticks(axes: Any) -> None:
    """20, 50, 100 and not powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draws(axes: Any, report: Report) -> None:
    mean = report.metrics["mauve"]
    axes.plot([mean.low, mean.high], [0, 0], color=OURS, linewidth=6, alpha=0.3, solid_capstyle="butt")
    axes.plot(report.mauve_draws, [0] * len(report.mauve_draws), "o", color=OURS, alpha=0.7)
    axes.plot([mean.value], [0], "|", color=INK, markersize=22)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(-1, 1)


def _drawn(draw: Callable[[Any], None], height: float = 2.6) -> str:
    """An SVG without a date or random ids (equal numbers give equal pages), in the page's own text colour."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError("a page needs matplotlib, which is not installed: pip install 'textcosm[eval]'") from error
    colours = dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color"), INK)
    style = {"svg.fonttype": "none", "svg.hashsalt": "textcosm", "font.family": "sans-serif", **colours}
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):  # type: ignore[arg-type]
        figure = Figure(figsize=(7, height), layout="constrained")
        draw(figure.subplots())
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")
