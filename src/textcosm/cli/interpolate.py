"""``textcosm interpolate``: the texts between two texts."""

from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.cli.options import Device, Model, parse_and_run
from textcosm.errors import ConfigError


def run(arguments: list[str]) -> None:
    parse_and_run(interpolate, "interpolate", arguments)


def interpolate(
    a: Annotated[Positional[str], arg(metavar="A", help="The text to start from.")],
    b: Annotated[Positional[str], arg(metavar="B", help="The text to arrive at.")],
    /,
    steps: Annotated[int, arg(metavar="K", help="How many texts, both ends included.")] = 7,
    model: Model = "stories-16",
    device: Device = None,
) -> None:
    """Write the texts on the way from A to B, one a line. Needs the model's text encoder (the extra "hf")."""
    from textcosm.pipeline import TextDiffusion

    if steps < 2:
        raise ConfigError(f"--steps is {steps}; an interpolation has at least its 2 ends")
    print(*TextDiffusion.load(model, device).interpolate(a, b, steps), sep="\n")
