"""``textcosm train``: from a file of texts to a model, with every setting of the recipe as a flag."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from textcosm.cli.options import Data, Device, SourceField, TargetField, TaskName, TextField, parse_and_run
from textcosm.presets import PRESETS, answering, preset, unconditional
from textcosm.tasks.named import named_task
from textcosm.training.recipe import Recipe
from textcosm.training.run import TrainResult

DEFAULT_PRESET = "stories-16"
INTERRUPTED = 130


def run(arguments: list[str]) -> int:
    """Two readings: what the other defaults depend on first, then every flag with these values (and in --help)."""
    return parse_and_run(command(chosen_preset(arguments), chosen_pairs(arguments)), "train", arguments)


def chosen_preset(arguments: Sequence[str]) -> str:
    """The value of ``--preset`` wherever it stands; ConfigError lists the presets if there is none of that name."""
    name = _value(arguments, "--preset") or DEFAULT_PRESET
    preset(name)
    return name


def chosen_pairs(arguments: Sequence[str]) -> bool | None:
    """Whether ``--task`` or ``--source-field`` asks for texts that answer sources, or for texts alone; None: neither."""
    task = _value(arguments, "--task")
    if task is not None:
        return named_task(task).is_paired
    return True if _value(arguments, "--source-field") is not None else None


def _value(arguments: Sequence[str], flag: str) -> str | None:
    """The last value that a flag is given, before the flags are read."""
    value = None
    for name, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if name == flag:
            value = following
        elif name.startswith(f"{flag}="):
            value = name.removeprefix(f"{flag}=")
    return value


def start(chosen: str, pairs: bool | None) -> Recipe:
    """The preset's recipe, with a source encoder or without one where the task asks for another than it has."""
    recipe = preset(chosen).recipe
    if pairs is None:
        return recipe
    return answering(recipe) if pairs else unconditional(recipe)


def command(chosen: str, pairs: bool | None = None) -> Callable[..., int]:
    """The command whose recipe flags default to the preset ``chosen``, for texts that answer sources or not."""
    from_preset = start(chosen, pairs)

    def train(
        data: Data,
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
        task: TaskName = None,
        text_field: TextField = None,
        source_field: SourceField = None,
        target_field: TargetField = None,
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
        recipe: Annotated[Recipe, arg(name="")] = from_preset,
    ) -> int:
        """Train a model on your own texts, or pairs: autoencoder, latent cache, diffusion. Resumes with the same command."""
        from rich.console import Console

        from textcosm.cli.progress import showing
        from textcosm.training.train import train as train_model

        named = {"task": task, "text_field": text_field, "source_field": source_field, "target_field": target_field}
        data_config = replace(recipe.data, **{name: value for name, value in named.items() if value is not None})
        recipe = replace(recipe, data=data_config)
        with showing(Console(stderr=True)) as report:
            result = train_model(
                recipe, data, out, stage, report=report, max_seconds=max_seconds,
                device=device, cache=cache, tensorboard=tensorboard,
            )  # fmt: skip
        limit = recipe.model.source.max_length if recipe.data.is_paired else None
        note_corpus(result, recipe.model.autoencoder.max_length, limit)
        if not result.finished:
            note("stopped before the end, with everything saved; the same command goes on from here")
            return 0 if max_seconds is not None else INTERRUPTED
        if result.model is not None:
            note(f"the model is in {result.model}; see it with: textcosm generate --model {out}")
        return 0

    return train


def note_corpus(result: TrainResult, length: int, source_length: int | None) -> None:
    """What was cut or left out; ``source_length`` is None where no sources are read."""
    note(f"{result.texts} texts; {result.cut} of them were longer than {length} tokens and were cut")
    if source_length is not None:
        note(f"{result.sources_cut} of {result.texts} sources were longer than {source_length} tokens and were cut")
    if result.left_out:
        note(f"pairs left out, for an empty source or no answer: {result.left_out}")


def note(line: str) -> None:
    print(line, file=sys.stderr)
