"""``textcosm baseline``: train a rival on the same texts or pairs, to compare with."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, cast, get_args

from tyro.conf import Positional, arg

from textcosm.baselines.settings import Kind, RivalConfig, RivalSampler
from textcosm.cli.options import Data, Device, SourceField, TargetField, TaskName, TextField, parse_and_run
from textcosm.cli.train import INTERRUPTED, note, note_corpus
from textcosm.tasks.files import DataConfig
from textcosm.text.backbone import BackboneConfig
from textcosm.training.fit import FitConfig
from textcosm.training.rivals import RivalRecipe, default_recipe, train_rival


def run(arguments: list[str]) -> int:
    """Two readings: the kind first, then every flag with that kind's values as the defaults (and in --help)."""
    return parse_and_run(command(default_recipe(chosen_kind(arguments))), "baseline", arguments)


def chosen_kind(arguments: Sequence[str]) -> Kind:
    """The first kind that is named; the parser says what is wrong where there is none."""
    named = [argument for argument in arguments if argument in get_args(Kind)]
    return cast(Kind, named[0]) if named else RivalRecipe().kind


def command(default: RivalRecipe) -> Callable[..., int]:
    """The command whose flags default to those of ``default``."""

    def baseline(
        kind: Annotated[Positional[Kind], arg(help="Which rival.")],
        data: Data,
        /,
        out: Annotated[Path, arg(metavar="DIR", help="The run's folder; the same command goes on where it stopped.")],
        task: TaskName = None,
        text_field: TextField = None,
        source_field: SourceField = None,
        target_field: TargetField = None,
        valid_fraction: Annotated[
            float, arg(help="The share of texts kept out of training.")
        ] = DataConfig().valid_fraction,
        device: Device = None,
        cache: Annotated[
            Path | None,
            arg(
                metavar="DIR",
                help="Where tokens are kept; that of textcosm train on the same data will do.",
                help_behavior_hint="(default: OUT/cache)",
            ),
        ] = None,
        max_seconds: Annotated[
            float | None,
            arg(
                metavar="S",
                help="Stop after so long; the rival is written as it stands.",
                help_behavior_hint="(default: never)",
            ),
        ] = None,
        tensorboard: Annotated[bool, arg(help="Write TensorBoard files beside the journal.")] = False,
        seed: Annotated[int, arg(help="Of weights, order and noise.")] = 0,
        backbone: BackboneConfig = default.backbone,
        model: Annotated[RivalConfig, arg(name="")] = default.model,
        training: Annotated[FitConfig, arg(name="")] = default.training,
        sampler: RivalSampler = default.sampler,
    ) -> int:
        """Train a rival on the tokens that our own model has (or on pairs). Resumes with the same command."""
        from rich.console import Console

        from textcosm.cli.progress import showing

        data_config = DataConfig(text_field, valid_fraction, task, source_field, target_field)
        recipe = RivalRecipe(kind, backbone, model, data_config, training, sampler, seed)
        with showing(Console(stderr=True)) as report:
            result = train_rival(
                recipe, data, out, report=report, max_seconds=max_seconds, device=device, cache=cache,
                tensorboard=tensorboard,
            )  # fmt: skip
        note_corpus(result, model.max_length, model.source_length if kind == "encoder-decoder" else None)
        if result.model is not None:
            note(f"the rival is in {result.model}")
        if not result.finished:
            note("stopped before the end, with everything saved; the same command goes on from here")
            return 0 if max_seconds is not None else INTERRUPTED
        return 0

    return baseline
