"""The options that several commands share, and the one call of the argument parser."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from textcosm.errors import ConfigError
from textcosm.tasks.named import TASKS

if TYPE_CHECKING:
    from textcosm.control.length import Length as WantedLength
    from textcosm.control.probe import Probe
    from textcosm.tasks import DataConfig

OWN = "(default: the model's own)"
Model = Annotated[
    str, arg(metavar="NAME|DIR", help="A shipped model by name, or the folder of a model or a training run.")
]
Data = Annotated[
    Positional[str],
    arg(metavar="DATA", help="A .txt, .jsonl, .csv or .parquet file (also .gz, .xz), or hf:NAME of a hub dataset."),
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
Solver = Annotated[
    str | None,
    arg(metavar="NAME", help="euler-maruyama, pf-euler, ddim, ddpm, heun or dpm++2m.", help_behavior_hint=OWN),
]
Steps = Annotated[int | None, arg(metavar="K", help="Steps from noise to text.", help_behavior_hint=OWN)]
Guidance = Annotated[
    float | None,
    arg(
        metavar="W",
        help="Weight of the source: 1 is the plain model, above 1 keeps closer to it (two passes a step).",
        help_behavior_hint=OWN,
    ),
]
Refinements = Annotated[
    int | None,
    arg(
        metavar="K",
        help="Send each text K times through the encoder, a little noise and one more guess: better sentences.",
        help_behavior_hint=OWN,
    ),
]
LmWeight = Annotated[
    float | None,
    arg(
        metavar="W",
        help="What the words of a text owe to what follows what in the training texts: 0 is the decoder alone, 1 Bayes' rule.",
        help_behavior_hint=OWN,
    ),
]
Candidates = Annotated[
    int, arg(metavar="K", help="Write each text K times and keep the one that the others agree with most.")
]
Best = Annotated[
    int,
    arg(
        metavar="K",
        help='Write each text K times and keep the one that the model denoises best. Needs the text encoder (extra "hf").',
    ),
]
MatrixPrecision = Annotated[
    Literal["float32", "float16", "bfloat16", "int8"],
    arg(
        metavar="NAME",
        help="Numbers in the denoiser's matrices: float16 or int8 are faster on a CPU, bfloat16 where the hardware has it.",
    ),
]
Compiled = Annotated[
    bool,
    arg(name="compile", help="On a GPU: a pass of the denoiser as one CUDA graph, which a minute of compiling makes."),
]
ProbeOf = Annotated[
    str | None,
    arg(
        metavar="DIR|NAME",
        help="A probe of textcosm probe, or that of a shipped model, which tells whether a text has the --label.",
        help_behavior_hint="(default: none)",
    ),
]
Label = Annotated[
    str | None,
    arg(metavar="NAME|not:NAME", help="What the texts should be, by the --probe.", help_behavior_hint="(default: none)"),
]
SourceField = Annotated[
    str | None, arg(metavar="FIELD", help="Which field holds the source.", help_behavior_hint="(default: the task's)")
]
TargetField = Annotated[
    str | None,
    arg(
        metavar="FIELD",
        help="Which field holds the answer, or a list of accepted ones.",
        help_behavior_hint="(default: the task's)",
    ),
]
TaskName = Annotated[
    str | None,
    arg(
        metavar="NAME",
        help=f"What the data is for, which tells its fields: {', '.join(TASKS)}.",
        help_behavior_hint="(default: texts alone)",
    ),
]
Given = Annotated[
    tuple[str, ...],
    arg(metavar="FILE|TEXT ...", help="Files of texts (as for train), - for lines of stdin, or the words themselves."),
]
Length = Annotated[
    str | None,
    arg(
        metavar="K|natural",
        help="Tokens of a text, start and end not counted; natural draws one as the training texts have it.",
        help_behavior_hint="(default: wherever the model ends)",
    ),
]
Seed = Annotated[int, arg(metavar="S", help="The same seed gives the same texts.")]


def length_of(given: str | None) -> "WantedLength | None":
    """What --length says; ConfigError for what is neither a whole number nor natural."""
    if given is None or given == "natural":
        return given
    if not given.isdigit():
        raise ConfigError(f"--length is {given!r}; give a number of tokens, such as 40, or natural")
    return int(given)


def open_probe(given: str | None, label: str | None) -> "Probe | None":
    """What --probe names: the folder of a probe, or a shipped model that has one. ConfigError for a half of the two flags."""
    if given is None and label is None:
        return None
    if given is None or label is None:
        raise ConfigError("--probe DIR and --label NAME go together: give both, or none")
    from textcosm.control.probe import Probe
    from textcosm.pipeline import shipped_models

    shipped = shipped_models()
    return Probe.load(shipped[given] / "probe" if given in shipped else given)


def pairs_of_model(model: str) -> "DataConfig":
    """How the data of this model or rival was read, as its record says: the task and the fields of pairs."""
    from textcosm.checkpoint import read_index
    from textcosm.pipeline import find_model
    from textcosm.tasks import DataConfig

    record = read_index(find_model(model))["metadata"].get("record", {})
    data = record.get("recipe", {}).get("data", {})
    return DataConfig(**{name: data.get(name) for name in ("task", "source_field", "target_field")})


def parse_and_run(command: Callable[..., Any], name: str, arguments: list[str]) -> Any:
    """Parse ``arguments`` by the signature of ``command`` and call it; exits by itself for --help and bad flags."""
    return tyro.cli(command, prog=f"textcosm {name}", args=arguments)
