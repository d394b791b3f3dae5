"""``textcosm interpolate``: the texts on the way from one to the next."""

from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.cli.given import given_texts
from textcosm.cli.options import Device, Given, Model, TextField, parse_and_run
from textcosm.errors import ConfigError, DataError


def run(arguments: list[str]) -> None:
    parse_and_run(interpolate, "interpolate", arguments)


def interpolate(
    texts: Positional[Given],
    /,
    steps: Annotated[int, arg(metavar="K", help="How many texts from one to the next, both included.")] = 7,
    model: Model = "stories-16",
    text_field: TextField = None,
    device: Device = None,
) -> None:
    """Write the path through these texts, two or more, a text a line. Needs the model's text encoder (the extra "hf")."""
    from textcosm.pipeline import TextDiffusion
    from textcosm.tasks.files import read_texts

    if steps < 2:
        raise ConfigError(f"--steps is {steps}; an interpolation has at least its 2 ends")
    stops = given_texts(texts, lambda file: read_texts(file, text_field))
    if len(stops) < 2:
        raise DataError(f"{len(stops)} text given; a path needs at least 2: its ends")
    print(*TextDiffusion.load(model, device).interpolate(*stops, steps=steps), sep="\n")
