"""``textcosm infill``: the blanks of texts, filled."""

from tyro.conf import Positional

from textcosm.cli.continue_ import Each, fill_and_write
from textcosm.cli.options import Device, Given, Length, Model, Seed, Solver, Steps, TextField, parse_and_run
from textcosm.cli.written import Form, Out


def run(arguments: list[str]) -> None:
    parse_and_run(infill, "infill", arguments)


def infill(
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
    """Fill the blanks of texts, each marked by three underscores or more: "Anna lost her keys. ____ She was happy."

    --length counts the tokens of a blank. What is given stays letter by letter.
    """
    fill_and_write("infill", texts, n, length, model, steps, solver, seed, form, out, text_field, device)
