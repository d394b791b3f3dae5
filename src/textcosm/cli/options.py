"""The options that several commands share, and the one call of the argument parser."""

from collections.abc import Callable
from typing import Annotated, Any

import tyro
from tyro.conf import arg

Model = Annotated[
    str, arg(metavar="NAME|DIR", help="A shipped model by name, or the folder of a model or a training run.")
]
Device = Annotated[
    str | None,
    arg(metavar="DEVICE", help="Such as cpu, cuda or mps.", help_behavior_hint="(default: the fastest at hand)"),
]
TextField = Annotated[
    str | None,
    arg(
        metavar="FIELD",
        help="Which field of .jsonl, .csv or .parquet holds the text.",
        help_behavior_hint='(default: "text", or the only one of text)',
    ),
]


def parse_and_run(command: Callable[..., Any], name: str, arguments: list[str]) -> Any:
    """Parse ``arguments`` by the signature of ``command`` and call it; exits by itself for --help and bad flags."""
    return tyro.cli(command, prog=f"textcosm {name}", args=arguments)
