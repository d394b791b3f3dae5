"""``textcosm infill``: the blanks of texts, filled; and, with continue, what comes after their beginnings."""

import sys
from dataclasses import asdict
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from textcosm.cli.options import Best, Given, parse_and_run
from textcosm.cli.steered import Asked
from textcosm.cli.written import write
from textcosm.errors import ConfigError

Each = Annotated[int, arg(aliases=["-n"], metavar="N", help="How many versions of each text.")]
Options = Annotated[Asked, arg(name="")]


def run(arguments: list[str]) -> None:
    parse_and_run(infill, "infill", arguments)


def infill(texts: Positional[Given], /, n: Each = 1, best: Best = 1, *, options: Options) -> None:
    """Fill the blanks of texts, each marked by three underscores or more: "Anna lost her keys. ____ She was happy."

    --length counts the tokens of a blank. What is given stays letter by letter.
    """
    fill_and_write("infill", texts, n, best, options)


def fill_and_write(method: Literal["infill", "complete"], texts: tuple[str, ...], n: int, best: int, options: Asked) -> None:
    """Fill texts by a method of the model and write them; on stderr, how many given tokens the model kept by itself."""
    if n < 1:
        raise ConfigError(f"-n is {n}; ask for at least 1 of each text")
    if best < 1:
        raise ConfigError(f"--best is {best}; choose among at least 1 candidate, such as 8")
    given, sampling = options.texts(texts), options.sampling
    sampling["best"] = best
    filled = getattr(options.open(), method)(given, n, **sampling)
    write(map(asdict, filled), options.form, options.out)
    kept = sum(one.kept for one in filled) / len(filled)
    print(f"{kept:.1%} of the given tokens were kept by the model itself; the texts have them all", file=sys.stderr)
