"""``textcosm continue``: what comes after the beginnings of texts."""

from tyro.conf import Positional

from textcosm.cli.infill import Each, Options, fill_and_write
from textcosm.cli.options import Best, Given, parse_and_run


def run(arguments: list[str]) -> None:
    parse_and_run(continue_, "continue", arguments)


def continue_(texts: Positional[Given], /, n: Each = 1, best: Best = 1, *, options: Options) -> None:
    """Write on from the beginnings of texts. --length counts all tokens of a text, the given ones too."""
    fill_and_write("complete", texts, n, best, options)
