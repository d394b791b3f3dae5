"""Rows of data as an evaluation reads them: blank texts kept to be counted, sources and targets where there are any."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textcosm.errors import ConfigError, DataError
from textcosm.tasks import PREFIX, HubTask, read_texts
from textcosm.tasks.files import read_records


@dataclass(frozen=True)
class Row:
    """A text, and for conditional tasks the source that it answers and every accepted answer (``targets``)."""

    text: str
    source: str | None = None
    targets: tuple[str, ...] = ()

    @property
    def is_blank(self) -> bool:
        return not self.text.strip()


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
    def has_sources(self) -> bool:
        return self.rows[0].source is not None

    def draw(self, n: int, seed: int) -> list[Row]:
        """``n`` of the rows, chosen by ``seed``, in their own order. Raises DataError where there are fewer."""
        if n < 1:
            raise ConfigError(f"n is {n}; ask for at least 1 text")
        if n > len(self.rows):
            raise DataError(f"{self.name} holds {len(self.rows)} texts, fewer than n = {n}: lower -n or give more")
        return [self.rows[i] for i in sorted(random.Random(seed).sample(range(len(self.rows)), n))]


def read_rows(data: str | Path, field: str | None = None) -> Rows:
    """The rows of a file or of ``hf:NAME``. A .jsonl whose records have a ``source`` gives sources and targets too.

    There the text is ``field``, else ``text``, ``target`` or the first of ``targets``. Raises DataError as read_texts.
    """
    if str(data).startswith(PREFIX):
        task = HubTask(str(data).removeprefix(PREFIX), field, 0.0)
        return Rows(str(data), tuple(Row(example.text) for example in task.examples("train")))
    path = Path(data).expanduser()
    if ".jsonl" in path.suffixes and path.is_file() and "source" in next(read_records(path), {}):
        return Rows(path.name, tuple(_pair(r, field, f"{path}, record {i}") for i, r in enumerate(read_records(path), 1)))
    keep_blank = ".txt" not in path.suffixes  # there a blank line only sets texts apart; elsewhere it is an empty text
    return Rows(path.name, tuple(Row(text) for text in read_texts(path, field, keep_blank)))


def _pair(record: Mapping[str, Any], field: str | None, where: str) -> Row:
    source, targets = record.get("source"), record.get("targets", record.get("target", []))
    targets = [targets] if isinstance(targets, str) else targets
    text = record.get(field or "text", targets[0] if isinstance(targets, list) and targets else None)
    if not isinstance(source, str) or not isinstance(text, str) or not _are_texts(targets):
        raise DataError(f'{where} is no pair; give {{"source": ..., "text": ...}} or {{"source": ..., "targets": [...]}}')
    return Row(text, source, tuple(targets))


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def split_blank(texts: Sequence[str]) -> tuple[list[str], int]:
    """The texts that hold something, and how many do not."""
    kept = [text for text in texts if text.strip()]
    return kept, len(texts) - len(kept)
