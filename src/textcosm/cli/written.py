"""Where the texts of a command go: a line each, or a JSON object each, to stdout or into a file."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from textcosm.checkpoint import whole_file

Form = Annotated[Literal["text", "jsonl"], arg(name="format", help="A text a line, or a JSON object a line.")]
Out = Annotated[
    Path | None,
    arg(metavar="FILE", help="Write here, whole or not at all.", help_behavior_hint="(default: stdout)"),
]


def write(rows: Iterable[Mapping[str, Any]], form: str, out: Path | None, spaced: bool = False) -> None:
    """Each row's field ``text`` on a line (``spaced``: a blank one after it), or as jsonl with all its fields."""
    lines = (json.dumps(row, ensure_ascii=False) if form == "jsonl" else _line(row["text"], spaced) for row in rows)
    if out is None:
        for line in lines:
            print(line, flush=True)
        return
    with whole_file(out) as file:
        for line in lines:
            print(line, file=file)


def _line(text: str, spaced: bool) -> str:
    return " ".join(text.split()) + ("\n" if spaced else "")
