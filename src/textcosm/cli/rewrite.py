"""``textcosm rewrite``: texts, noised part of the way and denoised again."""

from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.cli.given import given_texts
from textcosm.cli.options import Device, Given, Length, Model, Seed, Solver, Steps, TextField, length_of, parse_and_run
from textcosm.cli.written import Form, Out, write
from textcosm.errors import ConfigError, DataError


def run(arguments: list[str]) -> None:
    parse_and_run(rewrite, "rewrite", arguments)


def rewrite(
    texts: Positional[Given],
    /,
    strength: Annotated[float, arg(metavar="S", help="0 gives the text back, 1 forgets it.")] = 0.3,
    model: Model = "stories-16",
    steps: Steps = None,
    solver: Solver = None,
    length: Length = None,
    seed: Seed = 0,
    form: Form = "text",
    out: Out = None,
    text_field: TextField = None,
    device: Device = None,
) -> None:
    """Write texts anew, near to what they were. Needs the model's text encoder (the extra "hf")."""
    from textcosm.pipeline import TextDiffusion
    from textcosm.tasks.files import read_texts

    if not 0 <= strength <= 1:
        raise ConfigError(f"--strength is {strength}; give 0 (as it is) to 1 (forget it), such as 0.3")
    given = given_texts(texts, lambda file: read_texts(file, text_field))
    if not given:
        raise DataError(f"{' '.join(texts)} holds no texts; give at least one")
    diffusion = TextDiffusion.load(model, device)
    wanted = length_of(length)
    written = diffusion.rewrite(given, strength, steps=steps, solver=solver, seed=seed, length=wanted)
    write(({"source": source, "text": text} for source, text in zip(given, written, strict=True)), form, out)
