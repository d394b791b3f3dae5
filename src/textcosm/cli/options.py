"""The options that several commands share, and the one call of the argument parser."""

from collections.abc import Callable
from typing import Annotated, Any

import tyro
from tyro.conf import arg

Model = Annotated[str, arg(metavar="NAME|DIR", help="A shipped model by name, or the folder of a model or a training run.")]
Device = Annotated[str | None, arg(metavar="DEVICE", help="Such as cpu, cuda or mps; the fastest at hand by default.")]
TextField = Annotated[
    str | None, arg(metavar="FIELD", help="Which field of .jsonl, .csv or .parquet holds the text; guessed by default.")
]


def parse_and_run(command: Callable[..., Any], name: str, arguments: list[str]) -> None:
    """Parse ``arguments`` by the signature of ``command`` and call it; exits by itself for --help and bad flags."""
    tyro.cli(command, prog=f"textcosm {name}", args=arguments)
