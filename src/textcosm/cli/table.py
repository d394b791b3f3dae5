"""A table for a person on a terminal, and the same as Markdown for everything else."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from textcosm.evaluation.markdown import markdown_table


def print_table(rows: Sequence[tuple[str, ...]], markdown: bool = False) -> None:
    """Write rows, the head first, to stdout: drawn where that is a terminal, unless ``markdown``."""
    head, *body = rows
    if markdown or not sys.stdout.isatty():
        print(markdown_table(head, body))
        return
    table = Table(show_lines=any("\n" in cell for row in body for cell in row))
    for name in head:
        table.add_column(name, overflow="fold")
    for row in body:
        table.add_row(*row)
    Console().print(table, markup=False)
