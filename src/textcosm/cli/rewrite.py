"""``textcosm rewrite``: texts, noised part of the way and denoised again."""

from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.cli.options import Given, parse_and_run
from textcosm.cli.steered import Asked
from textcosm.cli.written import write
from textcosm.errors import ConfigError


def run(arguments: list[str]) -> None:
    parse_and_run(rewrite, "rewrite", arguments)


def rewrite(
    texts: Positional[Given],
    /,
    strength: Annotated[float, arg(metavar="S", help="0 gives the text back, 1 forgets it.")] = 0.3,
    *,
    options: Annotated[Asked, arg(name="")],
) -> None:
    """Write texts anew, near to what they were. Needs the model's text encoder (the extra "hf").

    A model that answers sources takes each text for its own source as well: detox-16 keeps more of a text so.
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"--strength is {strength}; give 0 (as it is) to 1 (forget it), such as 0.3")
    given = options.texts(texts)
    model, sampling = options.open(), options.sampling
    if model.reads_sources:
        sampling["source"] = given
    written = model.rewrite(given, strength, **sampling)
    rows = ({"source": source, "text": text} for source, text in zip(given, written, strict=True))
    write(rows, options.form, options.out)
