"""``textcosm compare``: reports side by side, with the differences and what they are worth."""

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.cli.options import parse_and_run


def run(arguments: list[str]) -> None:
    parse_and_run(compare, "compare", arguments)


def compare(
    reports: Annotated[
        Positional[tuple[Path, ...]],
        arg(metavar="REPORT", help="Folders that textcosm evaluate wrote, or their report.json; two or more."),
    ],
    /,
    markdown: Annotated[bool, arg(help="Write Markdown even to a terminal.")] = False,
    out: Annotated[
        Path | None,
        arg(metavar="FILE.html", help="Write a page as well.", help_behavior_hint="(default: none)"),
    ] = None,
    anyway: Annotated[bool, arg(help="Compare even where the judges, the data or the numbers of texts differ.")] = False,
) -> None:
    """Show the metrics of several reports, and how each report differs from the first."""
    from textcosm.checkpoint import whole_file
    from textcosm.cli.table import print_table
    from textcosm.evaluation.compare import compare as compare_reports
    from textcosm.evaluation.page import comparison_page
    from textcosm.evaluation.report import read_report

    found = [read_report(path) for path in reports]
    comparison = compare_reports(found, anyway)
    for warning in comparison.mismatches:
        print(f"warning: {warning}", file=sys.stderr)
    if out is not None:
        page = comparison_page(comparison)
        with whole_file(out) as file:
            file.write(page)
    print_table(comparison.table(), markdown)
    print(comparison.legend, file=sys.stderr)
