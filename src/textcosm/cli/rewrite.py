"""``textcosm rewrite``: texts, noised part of the way and denoised again."""

from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.cli.options import Given, Guidance, Label, ProbeOf, open_probe, parse_and_run
from textcosm.cli.steered import Asked
from textcosm.cli.written import write
from textcosm.errors import ConfigError


def run(arguments: list[str]) -> None:
    parse_and_run(rewrite, "rewrite", arguments)


def rewrite(
    texts: Positional[Given],
    /,
    strength: Annotated[
        tuple[float, ...],
        arg(
            metavar="S",
            help="0 gives the text back, 1 forgets it. Several, rising, are tried in turn until the --probe finds the --label.",
        ),
    ] = (0.3,),
    *,
    guidance: Guidance = None,
    probe: ProbeOf = None,
    label: Label = None,
    options: Annotated[Asked, arg(name="")],
) -> None:
    """Write texts anew, near to what they were. Needs the model's text encoder (the extra "hf").

    A model that answers sources takes each text for its own source as well: detox-16 keeps more of a text so. With
    several strengths and a probe a text is changed no further than it takes.
    """
    for one in strength:
        if not 0 <= one <= 1:
            raise ConfigError(f"--strength is {one}; give 0 (as it is) to 1 (forget it), such as 0.3")
    found = open_probe(probe, label)
    if (len(strength) > 1) != (found is not None):
        raise ConfigError("several --strength are tried until a probe finds a label: give them with --probe and --label, or one without")
    given = options.texts(texts)
    model, sampling = options.open(), options.sampling
    if model.reads_sources:
        sampling["source"] = given
    sampling["guidance"] = guidance
    accept = None
    if found is not None and label is not None:
        found.check(model.normaliser)
        accept = found.accept(label, model.encode)
    written = model.rewrite(given, strength, accept, **sampling)
    rows = ({"source": source, "text": text} for source, text in zip(given, written, strict=True))
    write(rows, options.form, options.out)
