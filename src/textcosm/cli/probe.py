"""``textcosm probe``: a classifier of latents from labelled texts, for ``generate --probe``."""

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from textcosm.cli.options import Device, Model, TextField, parse_and_run
from textcosm.errors import ConfigError, DataError


def run(arguments: list[str]) -> None:
    parse_and_run(probe, "probe", arguments)


def probe(
    file: Annotated[Positional[Path], arg(metavar="FILE", help="A .jsonl file (also .gz, .xz) of texts with labels, or of pairs with --task.")],
    /,
    out: Annotated[Path, arg(metavar="DIR", help="Write the probe into this folder.")],
    model: Model = "stories-16",
    text_field: TextField = None,
    label_field: Annotated[str, arg(metavar="FIELD", help="Which field holds the label.")] = "label",
    task: Annotated[
        str | None,
        arg(
            metavar="NAME",
            help="The file holds pairs of this task instead, whose sources and answers are the labels source and target.",
            help_behavior_hint="(default: labelled texts)",
        ),
    ] = None,
    seed: Annotated[int, arg(metavar="S", help="Draws the fifth of the texts that is held out.")] = 0,
    device: Device = None,
) -> None:
    """Learn to tell labels apart by the latents of texts. Needs the encoder and scikit-learn (the extras "hf" and "eval")."""
    from textcosm.control.probe import fit_probe, space_of
    from textcosm.pipeline import TextDiffusion

    texts, labels = sides(file, task) if task else labelled(file, text_field or "text", label_field)
    diffusion = TextDiffusion.load(model, device)
    found, accuracy = fit_probe(diffusion.encode(texts), labels, space_of(diffusion.normaliser), seed)
    found.save(out)
    label, count = Counter(labels).most_common(1)[0]
    print(
        f"{len(texts)} texts, labels {', '.join(found.labels)}: {accuracy:.3f} of the held-out fifth right "
        f"(always {label!r}: {count / len(labels):.3f}); wrote {out}",
        file=sys.stderr,
    )


def sides(file: Path, task: str) -> tuple[list[str], list[str]]:
    """The sources and the answers of the pairs that models train on, each once, and which they are."""
    from textcosm.tasks import DataConfig, open_task

    config = DataConfig(task=task)
    if not config.is_paired:
        raise ConfigError(f"--task {task} has texts alone, and a probe tells sources from answers: name a task of pairs")
    pairs = list(open_task(str(file), config).examples("train"))
    sources, targets = dict.fromkeys(pair.source or "" for pair in pairs), dict.fromkeys(pair.text for pair in pairs)
    return [*sources, *targets], ["source"] * len(sources) + ["target"] * len(targets)


def labelled(file: Path, text_field: str, label_field: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a .jsonl file; a label may be a word, a number, true or false. DataError says what is missing."""
    from textcosm.tasks.files import read_records

    texts, labels = [], []
    for number, record in enumerate(read_records(file), start=1):
        for field in (text_field, label_field):
            if record.get(field) is None:
                flag = "--text-field" if field == text_field else "--label-field"
                raise DataError(
                    f"{file}, record {number} has no field {field!r}; it has {', '.join(record)}: name one with {flag}"
                )
        texts.append(str(record[text_field]))
        labels.append(str(record[label_field]))
    return texts, labels
