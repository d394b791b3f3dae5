"""Tables in Markdown: of cards, of pages in docs/, and of the terminal's output where that is no terminal."""

from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, or nothing where there are no rows; a line break in a cell is ``<br>``."""
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    """``*`` would be emphasis, ``|`` the next cell."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("\n", "<br>")
