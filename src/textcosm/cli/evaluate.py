"""``textcosm evaluate``: texts of a model or a file, measured beside real ones, as a report that others can repeat."""

import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from textcosm.cli.options import (
    Best,
    Candidates,
    Device,
    Guidance,
    LmWeight,
    MatrixPrecision,
    Refinements,
    Solver,
    SourceField,
    Steps,
    pairs_of_model,
    parse_and_run,
)
from textcosm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from textcosm.evaluation.rows import Rows
    from textcosm.evaluation.subject import Subject
    from textcosm.tasks import DataConfig
    from textcosm.training.fit import StepReport

OF_SAMPLING = ("steps", "solver", "guidance", "refine", "lm_weight", "mbr", "best", "precision")
PAIRED = ("rouge1", "rouge2", "rougeL", "bleu", "bertscore")  # of EvaluationConfig, whose import costs torch


def run(arguments: list[str]) -> None:
    parse_and_run(command(shlex.join(["textcosm", "evaluate", *arguments])), "evaluate", arguments)


def command(line: str) -> Callable[..., None]:
    """The command, which was called as ``line``."""

    def evaluate(
        subject: Annotated[
            Positional[str],
            arg(
                metavar="MODEL|TEXTS",
                help="A shipped model, the folder of a model, a rival or a training run, a file of texts, or a rule that "
                "answers sources (rule:copy, rule:lead, rule:delete).",
            ),
        ],
        /,
        against: Annotated[
            str, arg(metavar="DATA", help="Real texts that the model has not seen: a file, or hf:NAME of a hub dataset.")
        ],
        judge: Annotated[
            str,
            arg(
                metavar="NAME",
                help="The language model that reads the texts: smollm2, a .gguf file, a folder, a hub name, or none.",
            ),
        ] = "smollm2",
        n: Annotated[int, arg(aliases=["-n"], metavar="N", help="How many texts, and as many real ones.")] = 1000,
        draws: Annotated[int, arg(metavar="K", help="Draws of MAUVE; 0 leaves it out.")] = 5,
        train: Annotated[
            str | None,
            arg(
                metavar="TRAIN",
                help="The texts that the model was trained on: shows what it has memorised.",
                help_behavior_hint="(default: not measured)",
            ),
        ] = None,
        metrics: Annotated[
            tuple[str, ...] | None,
            arg(
                metavar="NAME",
                help="For texts that answer sources: rouge1, rouge2, rougeL, bleu, bertscore, toxicity, "
                "style_accuracy, similarity, fluency, joint.",
                help_behavior_hint=f"(default: the task's, else {' '.join(PAIRED)})",
            ),
        ] = None,
        toxicity: Annotated[
            str | None,
            arg(
                metavar="MODEL",
                help="A classifier of toxicity: a folder or a hub name.",
                help_behavior_hint="(default: alt-profanity-check)",
            ),
        ] = None,
        fluency: Annotated[
            str | None,
            arg(
                metavar="MODEL",
                help="A classifier of acceptability: a folder or a hub name.",
                help_behavior_hint="(default: by the judge)",
            ),
        ] = None,
        out: Annotated[
            Path | None,
            arg(
                metavar="DIR",
                help="Where report.json, report.html and texts.jsonl go.",
                help_behavior_hint="(default: evaluated/NAME)",
            ),
        ] = None,
        name: Annotated[
            str | None, arg(metavar="NAME", help="What the report calls it.", help_behavior_hint="(default: its own)")
        ] = None,
        steps: Steps = None,
        solver: Solver = None,
        guidance: Guidance = None,
        refine: Refinements = None,
        lm_weight: LmWeight = None,
        mbr: Candidates = 1,
        best: Best = 1,
        precision: MatrixPrecision = "float32",
        seed: Annotated[int, arg(metavar="S", help="Of the texts, the real ones drawn, and MAUVE.")] = 0,
        batch_size: Annotated[int, arg(metavar="B", help="Texts made at a time.")] = 64,
        device: Device = None,
        text_field: Annotated[
            str | None,
            arg(
                metavar="FIELD",
                help="Which field of DATA and TRAIN holds the text.",
                help_behavior_hint='(default: "text", or the only one of text)',
            ),
        ] = None,
        task: Annotated[
            str | None,
            arg(
                metavar="TASK",
                help="How DATA and TRAIN hold sources and their answers, such as question-generation.",
                help_behavior_hint="(default: the model's own)",
            ),
        ] = None,
        source_field: SourceField = None,
        target_field: Annotated[
            str | None,
            arg(metavar="FIELD", help="Which field holds the answer or answers.", help_behavior_hint="(default: the task's)"),
        ] = None,
        own_field: Annotated[
            str | None,
            arg(
                metavar="FIELD",
                help="The same for a file of texts to evaluate.",
                help_behavior_hint='(default: "text", or the only one of text)',
            ),
        ] = None,
        cache: Annotated[
            Path | None,
            arg(
                metavar="DIR",
                help="Where the judge's readings are kept, so that nothing is read twice.",
                help_behavior_hint="(default: the user's cache folder)",
            ),
        ] = None,
    ) -> None:
        """Measure new texts beside real ones: MAUVE, perplexity, diversity, memorisation and more, with intervals.

        Writes report.json, report.html and texts.jsonl. The same command gives the same numbers.
        """
        from rich.console import Console

        from textcosm.cli.progress import showing
        from textcosm.cli.table import print_table
        from textcosm.evaluation.evaluate import EvaluationConfig
        from textcosm.evaluation.evaluate import evaluate as measure
        from textcosm.evaluation.judges import default_cache, open_judge
        from textcosm.evaluation.paired import Scorers
        from textcosm.evaluation.rows import read_rows
        from textcosm.pipeline import best_device
        from textcosm.tasks import DataConfig

        format = DataConfig(text_field, task=task, source_field=source_field, target_field=target_field)
        pairs = format if format.is_paired or text_field else own_pairs(subject, against)
        config = EvaluationConfig(n, draws, seed, metrics or metrics_of(task or pairs.task))
        references = read_rows(against, text_field, pairs)
        training = None if train is None else read_rows(train, text_field, pairs).all_answers
        chosen = device or str(best_device())
        how: dict[str, Any] = {"steps": steps, "solver": solver, "guidance": guidance, "refine": refine, "mbr": mbr, "best": best}
        how |= {"lm_weight": lm_weight, "batch_size": batch_size, "precision": precision}
        asked = open_subject(subject, name, how, references, chosen, own_field)
        reader = None if judge == "none" else open_judge(judge, chosen)
        cache = cache or default_cache()
        scorers = Scorers(toxicity=toxicity, fluency=fluency, judge=reader, cache=cache, device=chosen)
        folder = out or Path("evaluated") / Path(asked.name).name
        with showing(Console(stderr=True)) as report:
            result = measure(
                asked, references, reader, config, training=training, scorers=scorers, out=folder, cache=cache,
                command=line, device=chosen, progress=_Teller(report),
            )  # fmt: skip
        print_table(result.table())
        for note in [*result.notes, *(f"left out: {count} {reason}" for reason, count in result.excluded.items())]:
            print(note, file=sys.stderr)
        print(f"the report is {folder / 'report.html'}", file=sys.stderr)

    return evaluate


def own_pairs(subject: str, against: str) -> "DataConfig":
    """How the model's own data held its pairs, where it is a model and the data can hold some."""
    from textcosm.baselines.rules import is_rule
    from textcosm.tasks import DataConfig

    plain = ".txt" in Path(against).suffixes or _is_file(subject) or is_rule(subject)
    return DataConfig() if plain else pairs_of_model(subject)


def metrics_of(task: str | None) -> tuple[str, ...]:
    """What judges answers to sources: the task's own metrics."""
    from textcosm.tasks import named_task

    known = None if task is None else named_task(task)
    return known.metrics if known and known.is_paired else PAIRED


def open_subject(
    given: str, name: str | None, how: dict[str, Any], references: "Rows", device: str, field: str | None
) -> "Subject":
    """A rule, a file of texts, a rival or a model of ours: what ``given`` is; ``references`` may hold sources to answer."""
    from dataclasses import replace

    from textcosm.baselines import open_subject as open_rival
    from textcosm.baselines.rules import is_rule, open_rule
    from textcosm.evaluation.subject import of_file, of_model
    from textcosm.pipeline import TextDiffusion

    path, steps, batch_size = Path(given).expanduser(), how["steps"], how["batch_size"]
    if is_rule(given):
        _refuse(how, OF_SAMPLING, f"{given} is a rule, which samples nothing")
        if not references.has_targets:
            raise DataError(f"{given} answers sources and {references.name} holds none: give pairs, such as by --task NAME")
        return open_rule(given, references.draw_sources, name)
    if _is_file(given):
        _refuse(how, OF_SAMPLING, f"{given} is a file of texts, made already")
        found = of_file(path, field)
        return replace(found, name=name or found.name)
    rival = open_rival(path, name=name, steps=steps, batch_size=batch_size, device=device, references=references)
    if rival is not None:
        _refuse(how, OF_SAMPLING[1:], f"{given} is a rival, not a text diffusion model")
        return rival
    model = TextDiffusion.load(given, device)
    called = name or (path.resolve().parent.name if path.name == "model" else path.name)
    note = model.use_precision(how.pop("precision"))
    return of_model(model, called, references=references, remarks=[f"{note}."] if note else [], **how)


def _is_file(given: str) -> bool:
    from textcosm.tasks.files import READERS

    path = Path(given).expanduser()
    return path.is_file() or any(suffix in READERS for suffix in path.suffixes)


def _refuse(how: dict[str, Any], names: tuple[str, ...], why: str) -> None:
    plain = {"mbr": 1, "best": 1, "precision": "float32"}
    asked = [name for name in names if how[name] != plain.get(name)]
    if asked:
        flags = [f"--{name}".replace("_", "-") for name in asked]
        raise ConfigError(f"{why}: leave {' and '.join(flags)} out")


class _Teller:
    """Stages of an evaluation as reports for the progress display of training, which counts texts too."""

    def __init__(self, report: "Callable[[StepReport], None]"):
        self.report, self.start, self.last = report, 0.0, ("", -1)

    def __call__(self, stage: str, done: int, total: int) -> None:
        from textcosm.training.fit import StepReport

        if (stage, done) == self.last:
            return
        if stage != self.last[0]:
            self.start = time.monotonic()
        self.last = (stage, done)
        speed = done / max(time.monotonic() - self.start, 1e-6)
        self.report(StepReport(done, total, stage, {}, speed, (total - done) / speed if speed else 0.0))
