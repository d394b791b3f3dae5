"""Rows of data as an evaluation reads them: blank texts kept to be counted, sources and targets where there are any."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from textcosm.errors import ConfigError, DataError
from textcosm.tasks import PREFIX, DataConfig, HubTask, read_pairs, read_texts
from textcosm.tasks.files import read_records

T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """A text, and for conditional tasks the source that it answers and every accepted answer (``targets``)."""

    text: str
    source: str | None = None
    targets: tuple[str, ...] = ()

    @property
    def is_blank(self) -> bool:
        """Without text, or an answer to nothing."""
        return not self.text.strip() or (bool(self.targets) and not (self.source or "").strip())


@dataclass(frozen=True)
class Rows:
    """All rows of one file or dataset, in order."""

    name: str
    rows: tuple[Row, ...]

    @property
    def sha256(self) -> str:
        """Of the rows themselves, one JSON list a line: the same whether or how the file is packed."""
        digest = hashlib.sha256()
        for row in self.rows:
            digest.update(json.dumps([row.text, row.source, row.targets], ensure_ascii=False).encode() + b"\n")
        return digest.hexdigest()

    @property
    def written(self) -> "Rows":
        """Without the blank ones."""
        return Rows(self.name, tuple(row for row in self.rows if not row.is_blank))

    @property
    def has_sources(self) -> bool:
        return all(row.source is not None for row in self.rows)

    @property
    def has_targets(self) -> bool:
        return self.has_sources and all(row.targets for row in self.rows)

    def draw(self, n: int, seed: int) -> list[Row]:
        """``n`` of the rows, chosen by ``seed``, in their own order. Raises DataError where there are fewer."""
        if n < 1:
            raise ConfigError(f"n is {n}; ask for at least 1 text")
        if n > len(self.rows):
            raise DataError(f"{self.name} holds {len(self.rows)} texts, fewer than n = {n}: lower -n or give more")
        return _drawn(self.rows, n, seed)

    def draw_sources(self, n: int, seed: int) -> list[str]:
        """``n`` different sources that have an answer, chosen by ``seed``, in their own order; DataError for too few."""
        sources = list(dict.fromkeys(row.source or "" for row in self.rows if row.targets and not row.is_blank))
        if n > len(sources):
            raise DataError(
                f"{self.name} holds {len(sources)} different sources, fewer than n = {n}: lower -n or give more"
            )
        return _drawn(sources, n, seed)

    @property
    def all_answers(self) -> "Rows":
        """A row for each accepted answer, and as they are where no answers are."""
        answers = (replace(row, text=target) for row in self.rows for target in row.targets or (row.text,))
        return Rows(self.name, tuple(answers))


def _drawn(items: Sequence[T], n: int, seed: int) -> list[T]:
    """``n`` of the items in their own order."""
    return [items[i] for i in sorted(random.Random(seed).sample(range(len(items)), n))]


def read_rows(data: str | Path, field: str | None = None, pairs: DataConfig | None = None) -> Rows:
    """The rows of a file or of ``hf:NAME``; ``field`` holds the text, as for read_texts, which says what DataError means.

    With ``pairs`` of a task or of two fields, a row is a source, its answers, and the first of them as the text.
    Without, in a .jsonl, ``source`` is kept beside the text; where the first record has ``target`` or ``targets`` as well
    and no field is named, these are the accepted answers, and the text is ``text``, else the first of them.
    """
    if pairs is not None and pairs.is_paired:
        rows = (Row(pair.targets[0], pair.source, pair.targets) for pair in read_pairs(data, pairs))
        return Rows(str(data) if str(data).startswith(PREFIX) else Path(data).name, tuple(rows))
    if str(data).startswith(PREFIX):
        task = HubTask(str(data).removeprefix(PREFIX), field, 0.0)
        return Rows(str(data), tuple(Row(example.text) for example in task.examples("train")))
    path = Path(data).expanduser()
    first = next(read_records(path), {}) if ".jsonl" in path.suffixes and path.is_file() else {}
    if field is None and "source" in first and {"target", "targets"} & first.keys():
        records = enumerate(read_records(path), start=1)
        return Rows(path.name, tuple(_answered(record, f"{path}, record {i}") for i, record in records))
    keep_blank = ".txt" not in path.suffixes  # there a blank line only sets texts apart; elsewhere it is an empty text
    texts = read_texts(path, field, keep_blank)
    if "source" not in first or field == "source":
        return Rows(path.name, tuple(Row(text) for text in texts))
    sources = (record.get("source") for record in read_records(path))
    return Rows(path.name, tuple(map(_with_source, texts, sources)))


def _with_source(text: str, source: Any) -> Row:
    return Row(text, source if isinstance(source, str) else None)


def _answered(record: Mapping[str, Any], where: str) -> Row:
    source, targets = record.get("source"), record.get("targets", record.get("target"))
    targets = [targets] if isinstance(targets, str) else targets
    texts = isinstance(targets, list) and all(isinstance(target, str) for target in targets)
    if not isinstance(source, str) or not targets or not texts:
        raise DataError(f'{where} is no pair; give {{"source": "...", "targets": ["...", ...]}}')
    text = record.get("text", targets[0])
    if not isinstance(text, str):
        raise DataError(f"{where}: its field 'text' holds {type(text).__name__}, not text; mend it")
    return Row(text, source, tuple(targets))


def as_rows(texts: Rows | Sequence[str], name: str) -> Rows:
    """Plain texts as rows of that name."""
    return texts if isinstance(texts, Rows) else Rows(name, tuple(Row(text) for text in texts))


def answered_by(sources: Sequence[str], references: Rows, name: str) -> list[Row]:
    """For each source the row of the references with that source and, in ``targets``, every answer given to it there.

    Raises DataError, with ``name`` for who asks, where sources are not found: the texts are of different tasks.
    """
    answers: dict[str, list[str]] = {}
    for row in references.rows:
        answers.setdefault(row.source or "", []).extend(target for target in row.targets if target.strip())
    missing = [source for source in sources if source not in answers]
    if missing:
        raise DataError(
            f"{name} and {references.name} are of different tasks: {len(missing)} of {len(sources)} sources are not in "
            f"{references.name} (first {missing[0][:60]!r}); give the data that these texts answer"
        )
    found = ((source, tuple(answers[source]) or ("",)) for source in sources)
    return [Row(targets[0], source, targets) for source, targets in found]
