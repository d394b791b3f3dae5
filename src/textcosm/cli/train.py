"""``textcosm train``: from a file of texts to a model, with every setting of the recipe as a flag."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from textcosm.cli.options import Device, TextField, parse_and_run
from textcosm.presets import PRESETS, preset
from textcosm.training.recipe import Recipe

DEFAULT_PRESET = "stories-16"
INTERRUPTED = 130


def run(arguments: list[str]) -> int:
    """Two readings: ``--preset`` first, then every flag with that preset's values as the defaults (and in --help)."""
    return parse_and_run(command(chosen_preset(arguments)), "train", arguments)


def chosen_preset(arguments: Sequence[str]) -> str:
    """The value of ``--preset`` wherever it stands; ConfigError lists the presets if there is none of that name."""
    name = DEFAULT_PRESET
    for flag, following in zip(arguments, [*arguments[1:], DEFAULT_PRESET], strict=True):
        if flag == "--preset":
            name = following
        elif flag.startswith("--preset="):
            name = flag.removeprefix("--preset=")
    preset(name)
    return name


def command(chosen: str) -> Callable[..., int]:
    """The command whose recipe flags default to the preset ``chosen``."""

    def train(
        data: Annotated[
            Positional[str],
            arg(
                metavar="DATA",
                help="A .txt, .jsonl, .csv or .parquet file (also .gz, .xz), or hf:NAME of a hub dataset.",
            ),
        ],
        /,
        out: Annotated[Path, arg(metavar="DIR", help="The run's folder; the same command goes on where it stopped.")],
        preset: Annotated[
            str, arg(metavar="NAME", help=f"Where the other settings start from: {', '.join(PRESETS)}.")
        ] = chosen,
        stage: Annotated[
            Literal["autoencoder", "diffusion", "adaptation", "export"] | None,
            arg(
                help="One of them only; export writes the model from what is there.",
                help_behavior_hint="(default: all)",
            ),
        ] = None,
        text_field: TextField = None,
        device: Device = None,
        cache: Annotated[
            Path | None,
            arg(metavar="DIR", help="Where tokens, activations and latents are kept; OUT/cache by default."),
        ] = None,
        max_seconds: Annotated[
            float | None,
            arg(metavar="S", help="Stop after so long, with everything saved.", help_behavior_hint="(default: never)"),
        ] = None,
        tensorboard: Annotated[bool, arg(help="Write TensorBoard files beside the journals.")] = False,
        recipe: Annotated[Recipe, arg(name="")] = PRESETS[chosen].recipe,
    ) -> int:
        """Train a model on your own texts: autoencoder, latent cache, diffusion. Resumes with the same command."""
        from rich.console import Console

        from textcosm.cli.progress import showing
        from textcosm.training.train import train as train_model

        if text_field is not None:
            recipe = replace(recipe, data=replace(recipe.data, text_field=text_field))
        with showing(Console(stderr=True)) as report:
            result = train_model(
                recipe, data, out, stage, report=report, max_seconds=max_seconds,
                device=device, cache=cache, tensorboard=tensorboard,
            )  # fmt: skip
        length = recipe.model.autoencoder.max_length
        note(f"{result.texts} texts; {result.cut} of them were longer than {length} tokens and were cut")
        if not result.finished:
            note("stopped before the end, with everything saved; the same command goes on from here")
            return 0 if max_seconds is not None else INTERRUPTED
        if result.model is not None:
            note(f"the model is in {result.model}; see it with: textcosm generate --model {out}")
        return 0

    return train


def note(line: str) -> None:
    print(line, file=sys.stderr)
