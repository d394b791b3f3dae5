"""Evaluate anything that gives texts: ask for some, measure them beside real ones, and report it so that others can repeat it."""

import importlib.util
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from textcosm.checkpoint import whole_file
from textcosm.errors import BackboneError, ConfigError, DataError
from textcosm.evaluation import manifest
from textcosm.evaluation.judges import Judge
from textcosm.evaluation.mauve import FEWEST, Mauve, mauve
from textcosm.evaluation.metrics import bleu
from textcosm.evaluation.page import save_page
from textcosm.evaluation.paired import OF_REFERENCES, Scorers, check_metrics, paired_metrics
from textcosm.evaluation.report import TEXTS_FILE, Report, ordered
from textcosm.evaluation.results import Interval, bootstrap_mean
from textcosm.evaluation.rows import Row, Rows, answered_by, as_rows
from textcosm.evaluation.side import Side, measure_side
from textcosm.evaluation.subject import Subject

SAMPLES = 20
"""Texts shown in a report."""
Progress = Callable[[str, int, int], None]
"""Told the stage, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How much to measure.

    n: texts asked of the subject, and references drawn beside them.
    draws: of MAUVE, which needs a judge and 20 texts on a side; 0 leaves it out.
    seed: of the texts, of the references drawn, and of MAUVE.
    paired: names of ``paired_metrics``, for texts that answer sources where the references do as well.
    """

    n: int = 1000
    draws: int = 5
    seed: int = 0
    paired: tuple[str, ...] = OF_REFERENCES

    def __post_init__(self) -> None:
        if self.n < 2:
            raise ConfigError(f"n is {self.n}; an evaluation takes at least 2 texts")
        if self.draws < 0:
            raise ConfigError(f"draws is {self.draws}; give 0 to leave MAUVE out, or the usual 5")


def evaluate(
    subject: Subject,
    references: Rows | Sequence[str],
    judge: Judge | None = None,
    config: EvaluationConfig | None = None,
    *,
    training: Rows | Sequence[str] | None = None,
    scorers: Scorers | None = None,
    out: Path | None = None,
    cache: Path | None = None,
    command: str = "",
    device: str | torch.device = "cpu",
    progress: Progress = lambda stage, done, total: None,
) -> Report:
    """Ask the subject for texts and measure them beside real ones.

    Without a ``judge`` there is neither perplexity nor MAUVE; with ``training`` texts there are memorisation and copies.
    Blank texts are left out and counted. ``cache`` keeps the judge's readings, so that an evaluation that was stopped
    need not read again. With ``out``, ``texts.jsonl`` is written as soon as the texts are made, the report at the end.
    ``scorers`` are the models of paired metrics (default: the packaged ones, and the judge for fluency). ``command`` only
    goes into the manifest, as ``device`` does but for those scorers.

    Raises DataError, before any long work, for too few texts on either side and for sides of different tasks, and
    ConfigError for a missing package.
    """
    scorers = scorers or Scorers(judge=judge, cache=cache, device=str(device))
    work = _Evaluation(subject, references, judge, config or EvaluationConfig(), training, scorers, cache, progress)
    made = work.generate()
    if out is not None:
        write_texts(out, made, work.config.seed)
    report = work.report(made, command, device)
    if out is not None:
        report.save(out)
        save_page(report, out)
    return report


class _Evaluation:
    """The steps of :func:`evaluate`, checked when it is made and timed."""

    def __init__(
        self,
        subject: Subject,
        references: Rows | Sequence[str],
        judge: Judge | None,
        config: EvaluationConfig,
        training: Rows | Sequence[str] | None,
        scorers: Scorers,
        cache: Path | None,
        progress: Progress,
    ):
        self.scorers = scorers
        self.subject, self.judge, self.config, self.cache, self.progress = subject, judge, config, cache, progress
        self.references = as_rows(references, "references")
        self.training = None if training is None else as_rows(training, "training texts")
        self.with_mauve = judge is not None and config.draws > 0
        self.timings: dict[str, float] = {}
        _check_packages(self.with_mauve)
        self._check_number(config.n, f"n is {config.n}")
        self.real = self._references()
        self.remarks = subject.notes(config.n, config.seed) if subject.notes else []

    def _references(self) -> list[Row]:
        """As many real texts as are generated; for conditional tasks those that answer the same sources."""
        subject, n, seed = self.subject, self.config.n, self.config.seed
        if not self.references.has_targets:
            return self.references.written.draw(n, seed)
        if subject.sources is None:
            raise DataError(
                f"{subject.name} and {self.references.name} are of different tasks: the references answer sources, and "
                f'the texts have none; give what answers sources, rows {{"source": ..., "text": ...}} or a model that was '
                f"trained to, or name the field of plain references"
            )
        check_metrics(self.config.paired, references=True, sources=True, scorers=self.scorers)
        return answered_by(subject.sources(n, seed), self.references, subject.name)

    def _check_number(self, number: int, why: str) -> None:
        fewest = FEWEST if self.with_mauve else 2
        if number < fewest:
            remedy = "; --draws 0 leaves MAUVE out" if self.with_mauve else ""
            what = "MAUVE needs" if self.with_mauve else "an evaluation takes"
            raise DataError(f"{what} at least {fewest} texts on each side that are not blank, and {why}: give more{remedy}")

    def generate(self) -> list[Row]:
        """The subject's texts, blank ones too, with what they answer."""
        n, seed = self.config.n, self.config.seed
        with self._timed("generate", n) as told:
            texts: list[str] = []
            for batch in self.subject.texts(n, seed):
                texts += batch
                told(len(texts))
        if not self.references.has_targets:
            return [Row(text) for text in texts]
        return [replace(real, text=text) for text, real in zip(texts, self.real, strict=True)]

    def report(self, made: list[Row], command: str, device: str | torch.device) -> Report:
        """Measure both sides, compare them, and say what was done."""
        new = [row for row in made if not row.is_blank]
        self._check_number(len(new), f"{len(made) - len(new)} of the {len(made)} of {self.subject.name} are blank")
        ours, theirs = self._measure("measure texts", new), self._measure("measure references", self.real)
        with self._timed("compare", 1):
            found = self._mauve(ours, theirs)
            paired = self._paired(new)
        paired |= self._reconstruction()
        return Report(
            name=self.subject.name,
            manifest=self._manifest(command, device),
            metrics=ordered(ours.metrics | paired | ({"mauve": found.value} if found else {})),
            reference=ordered(theirs.metrics),
            per_text=ours.per_text,
            reference_per_text=theirs.per_text,
            mauve_draws=list(found.draws) if found else [],
            excluded=self._excluded(made, ours, theirs),
            notes=self._notes(found, new),
            samples=[row.text for row in new[:SAMPLES]],
            sample_sources=[row.source or "" for row in new[:SAMPLES]] if self.references.has_targets else [],
            timings=self.timings,
        )

    def _measure(self, stage: str, rows: list[Row]) -> Side:
        training = None if self.training is None else [row.text for row in self.training.rows]
        with self._timed(stage, len(rows)) as told:
            return measure_side([row.text for row in rows], self.judge, training, self.cache, told)

    def _mauve(self, ours: Side, theirs: Side) -> Mauve | None:
        if not self.with_mauve or ours.readings is None or theirs.readings is None:
            return None
        config = self.config
        return mauve(ours.readings.features, theirs.readings.features, draws=config.draws, seed=config.seed)

    def _paired(self, new: list[Row]) -> dict[str, Interval]:
        if not self.references.has_targets:
            return {}
        texts, targets = [row.text for row in new], [list(row.targets) for row in new]
        return paired_metrics(texts, targets, [row.source or "" for row in new], self.config.paired, self.scorers)

    def _reconstruction(self) -> dict[str, Interval]:
        """How much of the references survives the subject's latent space, where it has one and the encoder is there."""
        if self.subject.reconstruct is None:
            return {}
        texts = [row.text for row in self.real]
        with self._timed("reconstruct", len(texts)):
            try:
                found = self.subject.reconstruct(texts)
            except BackboneError as error:
                self.remarks.append(f"Reconstruction was not measured: {error}.")
                return {}
        return {
            "token_accuracy": bootstrap_mean(one.token_accuracy for one in found),
            "reconstruction_bleu": bleu([one.reconstruction for one in found], texts),
        }

    def _manifest(self, command: str, device: str | torch.device) -> dict[str, Any]:
        config = asdict(self.config)
        config["paired"] = list(self.config.paired) if self.references.has_targets else []
        config["scorers"] = self.scorers.names if self.references.has_targets else None
        return {
            "model": self.subject.manifest,
            "data": manifest.data(self.references),
            "train": None if self.training is None else manifest.data(self.training),
            "judge": manifest.judged_by(self.judge),
            **config,
            **manifest.machine(device),
            "versions": manifest.versions(),
            "command": command,
        }

    def _excluded(self, made: list[Row], ours: Side, theirs: Side) -> dict[str, int]:
        counts = {
            "blank texts": sum(row.is_blank for row in made),
            "blank rows of the references": sum(row.is_blank for row in self.references.rows),
            "texts without a token for the judge": ours.unread,
            "references without a token for the judge": theirs.unread,
        }
        return {reason: count for reason, count in counts.items() if count}

    def _notes(self, found: Mauve | None, new: list[Row]) -> list[str]:
        notes = [f"MAUVE is {found.note}." if found.note else ""] if found else []
        if found and found.size == len(self.real):
            notes.append("Every draw of MAUVE takes all texts: its interval is over the clustering alone.")
        if len(new) < len(self.real):
            notes.append(f"Div and self-BLEU depend on the number of texts: {len(new)} here, {len(self.real)} references.")
        return [note for note in [*notes, *self.remarks] if note]

    @contextmanager
    def _timed(self, stage: str, total: int) -> Iterator[Callable[[int], None]]:
        """Time a stage; what it gives is to be called with how much is done."""
        self.progress(stage, 0, total)
        start = time.perf_counter()
        yield lambda done: self.progress(stage, done, total)
        self.timings[stage] = time.perf_counter() - start
        self.progress(stage, total, total)


def write_texts(folder: Path, rows: Sequence[Row], seed: int) -> None:
    """``texts.jsonl``: every text, blank ones too, in a form that can be evaluated again."""
    folder = folder.expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(folder / TEXTS_FILE) as file:
        for index, row in enumerate(rows):
            source = {} if row.source is None else {"source": row.source}
            print(json.dumps({"index": index, "seed": seed, **source, "text": row.text}, ensure_ascii=False), file=file)


def _check_packages(with_mauve: bool) -> None:
    """Before hours of work, not after."""
    wanted = ["sacrebleu", "jinja2", "matplotlib", *(["mauve", "faiss"] if with_mauve else [])]
    missing = [name for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"an evaluation needs {', '.join(missing)}, not installed here: pip install 'textcosm[eval]'")
