"""``textcosm continue``: what comes after the beginnings of texts; and the writing that it shares with infill."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from textcosm.cli.given import given_texts
from textcosm.cli.options import Device, Given, Length, Model, Seed, Solver, Steps, TextField, length_of, parse_and_run
from textcosm.cli.written import Form, Out, write
from textcosm.errors import ConfigError, DataError

Each = Annotated[int, arg(aliases=["-n"], metavar="N", help="How many versions of each text.")]


def run(arguments: list[str]) -> None:
    parse_and_run(continue_, "continue", arguments)


def continue_(
    texts: Positional[Given],
    /,
    n: Each = 1,
    length: Length = None,
    model: Model = "stories-16",
    steps: Steps = None,
    solver: Solver = None,
    seed: Seed = 0,
    form: Form = "text",
    out: Out = None,
    text_field: TextField = None,
    device: Device = None,
) -> None:
    """Write on from the beginnings of texts. --length counts all tokens of a text, the given ones too."""
    fill_and_write("complete", texts, n, length, model, steps, solver, seed, form, out, text_field, device)


def fill_and_write(
    method: Literal["infill", "complete"],
    texts: tuple[str, ...],
    n: int,
    length: str | None,
    model: str,
    steps: int | None,
    solver: str | None,
    seed: int,
    form: str,
    out: Path | None,
    text_field: str | None,
    device: str | None,
) -> None:
    """Fill texts by a method of the model and write them; on stderr, how many given tokens the model kept by itself."""
    from textcosm.pipeline import TextDiffusion
    from textcosm.tasks.files import read_texts

    if n < 1:
        raise ConfigError(f"-n is {n}; ask for at least 1 of each text")
    given = given_texts(texts, lambda file: read_texts(file, text_field))
    if not given:
        raise DataError(f"{' '.join(texts)} holds no texts; give at least one")
    fill = getattr(TextDiffusion.load(model, device), method)
    filled = fill(given, n, length=length_of(length), steps=steps, solver=solver, seed=seed)
    write(map(asdict, filled), form, out)
    kept = sum(one.kept for one in filled) / len(filled)
    print(f"{kept:.1%} of the given tokens were kept by the model itself; the texts have them all", file=sys.stderr)
