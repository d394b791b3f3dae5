"""Pairs of a source and the texts that answer it, from a file or a hub dataset, and the task that they make."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from textcosm.errors import DataError
from textcosm.tasks.files import DataConfig, located_records, read_texts, text_in
from textcosm.tasks.hub import PREFIX, hub_records
from textcosm.tasks.named import ANSWERS, SEPARATOR, named_task
from textcosm.tasks.task import Example, in_split

SOURCES, TARGETS = (("source",),), ("targets", "target")
"""The fields of pairs where nothing is said."""


@dataclass(frozen=True)
class Pair:
    """A source and every accepted answer, at least one; blank answers are left out where there are others."""

    source: str
    targets: tuple[str, ...]
    group: str = field(default="", compare=False)
    """What goes whole into one split: a source of several fields may share its last, the context, with other sources."""

    @property
    def is_whole(self) -> bool:
        """Whether neither side is blank, so that something can be learned from it."""
        return bool(self.source.strip() and self.targets[0].strip())


class PairTask:
    """Texts that answer a source, split into training and validation by a hash of the source: it is on one side only.

    Of a source of several fields the last is hashed, so that all questions about a context are on one side.

    A pair of several answers is as many examples. Pairs with a blank source or without an answer are left out.
    """

    def __init__(self, data: str | Path, config: DataConfig):
        self.data, self.config = data, config
        self.name = str(data).removeprefix(PREFIX) if str(data).startswith(PREFIX) else Path(data).name
        self.metrics: tuple[str, ...] = named_task(config.task).metrics if config.task else ANSWERS
        self.left_out = 0
        """Pairs that the last reading of a split left out, of either split; known once it is through."""

    def examples(self, split: str) -> Iterator[Example]:
        """The examples of "train" or "valid" in the order of the data; raises DataError as :func:`read_pairs` does."""
        return self._examples(in_split(split, self.config.valid_fraction))

    def _examples(self, chosen: Callable[[str], bool]) -> Iterator[Example]:
        self.left_out = 0
        for pair in read_pairs(self.data, self.config):
            if not pair.is_whole:
                self.left_out += 1
            elif chosen(pair.group or pair.source):
                yield from (Example(target, pair.source) for target in pair.targets)


def read_pairs(data: str | Path, config: DataConfig) -> Iterator[Pair]:
    """The pairs of a .jsonl, .csv or .parquet file (also .gz, .xz) or of ``hf:NAME``, streamed.

    The fields are those that ``config`` names, else those of its task, else "source" and "targets" or "target". The
    parts of a source of several fields are joined by SEPARATOR, and it is blank where one of them is. A null is a blank
    text.

    Raises:
        DataError: as read_texts; a record without the fields, or with something else than text in them.
    """
    sources, targets = _fields(config)
    where = None
    for where, record in _records(data):
        parts = _source(record, sources, where)
        yield Pair(_joined(parts), _targets(record, targets, where), parts[-1])
    if where is None:
        raise DataError(f"{data} holds no pairs; give data with at least one")


def read_sources(data: str | Path, config: DataConfig) -> Iterator[str]:
    """The sources alone, of the same data or of data without answers; each line of a .txt is a source."""
    if ".txt" in Path(data).suffixes:
        yield from read_texts(data)
        return
    sources, _ = _fields(config)
    for where, record in _records(data):
        yield _joined(_source(record, sources, where))


def pairs_of(sources: Sequence[str], targets: Sequence[str | Sequence[str]]) -> list[Pair]:
    """Pairs of two lists, one or several targets for each source; DataError where the lists differ in length."""
    if len(sources) != len(targets):
        raise DataError(f"{len(sources)} sources and {len(targets)} targets; give as many of each")
    return [
        Pair(source, _several([target] if isinstance(target, str) else target))
        for source, target in zip(sources, targets, strict=True)
    ]


def _records(data: str | Path) -> Iterator[tuple[str, dict]]:
    if str(data).startswith(PREFIX):
        return hub_records(str(data).removeprefix(PREFIX))
    return located_records(data)


def _fields(config: DataConfig) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """The alternatives for the fields of a source, and for that of its targets."""
    task = None if config.task is None else named_task(config.task)
    sources, targets = (task.sources, task.targets) if task and task.is_paired else (SOURCES, TARGETS)
    sources = sources if config.source_field is None else ((config.source_field,),)
    return sources, targets if config.target_field is None else (config.target_field,)


def _source(record: dict, alternatives: Sequence[tuple[str, ...]], where: str) -> list[str]:
    fields = next((fields for fields in alternatives if all(field in record for field in fields)), None)
    if fields is None:
        raise _lacking("source", [" + ".join(fields) for fields in alternatives], record, where)
    return [text_in(record, field, where) for field in fields]


def _joined(parts: Sequence[str]) -> str:
    """The parts of a source as one text, blank where one of them is."""
    return SEPARATOR.join(parts) if all(part.strip() for part in parts) else ""


def _targets(record: dict, names: Sequence[str], where: str) -> tuple[str, ...]:
    name = next((name for name in names if name in record), None)
    if name is None:
        raise _lacking("target", names, record, where)
    if not isinstance(record[name], list):
        return (text_in(record, name, where),)
    return _several([text_in({name: value}, name, where) for value in record[name]])


def _several(targets: Sequence[str]) -> tuple[str, ...]:
    return tuple(target for target in targets if target.strip()) or ("",)


def _lacking(side: str, wanted: Sequence[str], record: dict, where: str) -> DataError:
    there = ", ".join(record) or "none"
    return DataError(f"{where}: no field {' or '.join(wanted)}; it has: {there}. Name the {side} with --{side}-field")
