"""``textcosm baseline``: train a rival on the same texts, to compare with."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.baselines.settings import Kind, RivalConfig, RivalSampler
from textcosm.cli.options import Device, TextField, parse_and_run
from textcosm.cli.train import INTERRUPTED, note
from textcosm.tasks.files import DataConfig
from textcosm.text.backbone import BackboneConfig
from textcosm.training.fit import FitConfig
from textcosm.training.rivals import RIVAL_FIT, RivalRecipe, train_rival

_DEFAULT = RivalRecipe()


def run(arguments: list[str]) -> int:
    return parse_and_run(baseline, "baseline", arguments)


def baseline(
    kind: Annotated[Positional[Kind], arg(help="Which rival.")],
    data: Annotated[
        Positional[str],
        arg(metavar="DATA", help="A .txt, .jsonl, .csv or .parquet file (also .gz, .xz), or hf:NAME of a hub dataset."),
    ],
    /,
    out: Annotated[Path, arg(metavar="DIR", help="The run's folder; the same command goes on where it stopped.")],
    text_field: TextField = None,
    valid_fraction: Annotated[float, arg(help="The share of texts kept out of training.")] = DataConfig().valid_fraction,
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
    backbone: BackboneConfig = _DEFAULT.backbone,
    model: Annotated[RivalConfig, arg(name="")] = _DEFAULT.model,
    training: Annotated[FitConfig, arg(name="")] = RIVAL_FIT,
    sampler: RivalSampler = _DEFAULT.sampler,
) -> int:
    """Train a rival, autoregressive or masked, on the tokens that our own model has. Resumes with the same command."""
    from rich.console import Console

    from textcosm.cli.progress import showing

    recipe = RivalRecipe(kind, backbone, model, DataConfig(text_field, valid_fraction), training, sampler, seed)
    with showing(Console(stderr=True)) as report:
        result = train_rival(
            recipe, data, out, report=report, max_seconds=max_seconds, device=device, cache=cache,
            tensorboard=tensorboard,
        )  # fmt: skip
    note(f"{result.texts} texts; {result.cut} of them were longer than {model.max_length} tokens and were cut")
    if result.model is not None:
        note(f"the rival is in {result.model}")
    if not result.finished:
        note("stopped before the end, with everything saved; the same command goes on from here")
        return 0 if max_seconds is not None else INTERRUPTED
    return 0
