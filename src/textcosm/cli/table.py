"""A table for a person on a terminal, and the same as Markdown for everything else."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table


def print_table(rows: Sequence[tuple[str, ...]], markdown: bool = False) -> None:
    """Write rows, the head first, to stdout: drawn where that is a terminal, unless ``markdown``."""
    if markdown or not sys.stdout.isatty():
        print(as_markdown(rows))
        return
    head, *body = rows
    table = Table(show_lines=any("\n" in cell for row in body for cell in row))
    for name in head:
        table.add_column(name, overflow="fold")
    for row in body:
        table.add_row(*row)
    Console().print(table, markup=False)


def as_markdown(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows, the head first, as a Markdown table; a line break in a cell is ``<br>``."""
    head, *body = rows
    lines = [head, ("---",) * len(head), *body]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """``*`` would be emphasis, ``|`` the next cell."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", "<br>")
