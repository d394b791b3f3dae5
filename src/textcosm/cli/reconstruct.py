"""``textcosm reconstruct``: how much of a text survives the latent space."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.cli.options import Device, Model, TextField, parse_and_run
from textcosm.errors import ConfigError, DataError

BATCH = 64


def run(arguments: list[str]) -> None:
    parse_and_run(reconstruct, "reconstruct", arguments)


def reconstruct(
    file: Annotated[
        Positional[str],
        arg(metavar="FILE|-", help="A .txt, .jsonl, .csv or .parquet file (also .gz, .xz), or - for lines of stdin."),
    ],
    /,
    model: Model = "stories-16",
    n: Annotated[
        int | None,
        arg(aliases=["-n"], metavar="N", help="Stop after so many texts.", help_behavior_hint="(default: all)"),
    ] = None,
    text_field: TextField = None,
    device: Device = None,
) -> None:
    """Encode and decode texts: JSON lines of text, reconstruction and token_accuracy; a summary on stderr.

    Needs the model's text encoder (the extra "hf").
    """
    from textcosm.pipeline import TextDiffusion

    if n is not None and n < 1:
        raise ConfigError(f"-n is {n}; ask for at least 1 text")
    texts = islice(_texts(file, text_field), n)
    first = list(islice(texts, BATCH))  # a bad file is found before the model is loaded
    if not first:
        raise DataError(f"{'stdin' if file == '-' else file} holds no texts; give at least one")
    diffusion = TextDiffusion.load(model, device)
    total, whole, accuracy, cut = 0, 0, 0.0, 0
    length = diffusion.config.autoencoder.max_length
    while first:
        cut += diffusion.tokenizer.tokenize(first, length).cut
        for found in diffusion.reconstruct(first, BATCH):
            print(json.dumps(dataclasses.asdict(found), ensure_ascii=False))
            total, whole, accuracy = total + 1, whole + (found.token_accuracy == 1), accuracy + found.token_accuracy
        first = list(islice(texts, BATCH))
    print(
        f"{total} texts: token accuracy {accuracy / total:.4f} (mean over texts), {whole} came back whole, "
        f"{cut} were longer than {length} tokens and were cut",
        file=sys.stderr,
    )


def _texts(file: str, field: str | None) -> Iterator[str]:
    from textcosm.cli.given import stdin_lines
    from textcosm.tasks.files import read_texts

    return stdin_lines() if file == "-" else read_texts(file, field)
