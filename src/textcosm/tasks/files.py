"""Texts and records from a file, one at a time: .txt, .jsonl, .csv and .parquet, each also .gz or .xz."""

import csv
import gzip
import importlib.util
import json
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

from textcosm.errors import ConfigError, DataError
from textcosm.tasks.named import named_task
from textcosm.tasks.task import Example, choose_field, examples_of

LONGEST_LINE = 10_000_000
"""Bytes in a line; a longer one is taken for a file without line ends, not for a text."""
OPENERS = {".gz": gzip.open, ".xz": lzma.open}
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
"""What the decompressors raise for a file that is cut off or altered."""


@dataclass(frozen=True)
class DataConfig:
    """How texts, or pairs of a source and its answers, are read from a file or a hub dataset.

    text_field: the field or column of the text; None takes "text", or the only field that holds text.
    valid_fraction: the share of texts kept out of training, chosen by a hash of the text itself (of pairs: the source).
    task: a name of ``named.TASKS``, which knows the fields; None for texts, or for pairs by the two fields below.
    source_field, target_field: of pairs, instead of the task's own; the target may be a list of answers.
    """

    text_field: str | None = None
    valid_fraction: float = 0.02
    task: str | None = None
    source_field: str | None = None
    target_field: str | None = None

    def __post_init__(self):
        if not 0 <= self.valid_fraction < 1:
            raise ConfigError(f"valid_fraction is {self.valid_fraction}; give a share from 0 to below 1, such as 0.02")
        if self.task is not None:
            task = named_task(self.task)
            if not task.is_paired and (self.source_field or self.target_field):
                raise ConfigError(
                    f"task {self.task!r} has no sources; leave --source-field and --target-field out, or the task"
                )
            if task.is_paired and self.text_field:
                raise ConfigError(f"task {self.task!r} has pairs, not texts; leave --text-field {self.text_field!r} out")
        elif bool(self.source_field) != bool(self.target_field):
            given, other = ("source", "target") if self.source_field else ("target", "source")
            raise ConfigError(f"--{given}-field is given alone; give --{other}-field too, or --task")
        if self.text_field and self.source_field:
            raise ConfigError(
                f"--text-field {self.text_field!r} and --source-field {self.source_field!r} are given; "
                "give one: texts, or pairs"
            )

    @property
    def is_paired(self) -> bool:
        """Whether each text answers a source."""
        return self.source_field is not None or (self.task is not None and named_task(self.task).is_paired)


class FileTask:
    """Unconditional writing after the texts of a file, split into training and validation by a hash of each text."""

    metrics: tuple[str, ...] = ("perplexity", "diversity", "memorisation")

    def __init__(self, path: str | Path, field: str | None = None, valid_fraction: float = 0.02):
        self.path, self.field, self.valid_fraction = Path(path).expanduser(), field, valid_fraction
        self.name = self.path.name

    def examples(self, split: str) -> Iterator[Example]:
        """The texts of "train" or "valid" in the order of the file; raises DataError as :func:`read_texts` does."""
        return examples_of(read_texts(self.path, self.field), split, self.valid_fraction)


def read_texts(path: str | Path, field: str | None = None, keep_blank: bool = False) -> Iterator[str]:
    """The texts of a file, streamed; blank ones are left out, or kept in their places with ``keep_blank``.

    ``field`` is the field or column of the text (not for .txt, whose every line is a text); None takes "text", or the
    only field that holds text. A null is a blank text.

    Raises:
        DataError: the file is missing, empty, of an unknown kind, cut off, not UTF-8, has a line over 10 MB or a line
            that is not what its name says, or has no such field. Lines are counted from 1.
    """
    path = Path(path).expanduser()
    reader = READERS[_kind(path)]
    empty = True
    try:
        with OPENERS.get(path.suffix.lower(), open)(path, "rb") as stream:
            for text in reader(cast(BufferedIOBase, stream), field, str(path)):
                blank = not text or text.isspace()
                empty = empty and blank
                if keep_blank or not blank:
                    yield text
    except BROKEN as error:
        raise DataError(f"{path} is cut off or altered ({error}); copy or download it again") from error
    if empty:
        raise DataError(f"{path} holds no text; give a file with at least one")


def read_records(path: str | Path) -> Iterator[dict]:
    """The records of a .jsonl, .csv or .parquet file (also .gz, .xz), streamed, with all their fields.

    Raises:
        DataError: as :func:`read_texts`.
    """
    return (record for _, record in located_records(path))


def located_records(path: str | Path) -> Iterator[tuple[str, dict]]:
    """The same, each with its place in words, for messages about it."""
    path = Path(path).expanduser()
    reader = RECORD_READERS.get(_kind(path))
    if reader is None:
        raise DataError(f"{path} holds no records; give {', '.join(RECORD_READERS)}, or one of these with .gz or .xz")
    try:
        with OPENERS.get(path.suffix.lower(), open)(path, "rb") as stream:
            yield from reader(cast(BufferedIOBase, stream), str(path))
    except BROKEN as error:
        raise DataError(f"{path} is cut off or altered ({error}); copy or download it again") from error


def _kind(path: Path) -> str:
    """The ending that tells what a file holds, once it is sure that there is a file."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a file in it")
    if not path.exists():
        raise DataError(f"{path} does not exist; check the name")
    kind = (path.with_suffix("").suffix if path.suffix.lower() in OPENERS else path.suffix).lower()
    if kind not in READERS:
        raise DataError(f"{path} is of no known kind; give {', '.join(READERS)}, or one of these with .gz or .xz")
    return kind


def _read_txt(stream: BufferedIOBase, field: str | None, where: str) -> Iterator[str]:
    if field is not None:
        raise DataError(f"{where} is plain text and has no field {field!r}; leave --text-field out")
    for _, line in _lines(stream, where):
        yield line.strip()


def _read_jsonl(stream: BufferedIOBase, field: str | None, where: str) -> Iterator[str]:
    chosen = None
    for place, record in _jsonl_records(stream, where):
        if chosen is None:
            chosen = choose_field({key: isinstance(value, str) for key, value in record.items()}, field, where)
        yield text_in(record, chosen, place)


def _jsonl_records(stream: BufferedIOBase, where: str) -> Iterator[tuple[str, dict]]:
    for number, line in _lines(stream, where):
        if not line.isspace():
            yield f"{where}, line {number}", _record(line, f"{where}, line {number}")


def _record(line: str, where: str) -> dict:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}); give one object a line") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a JSON object but {type(record).__name__}; give one object a line")
    return record


def text_in(record: dict, field: str, where: str) -> str:
    """The text in a field, "" for a null; DataError where there is no such field, or something else in it."""
    value = record.get(field)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{where}: its field {field!r} holds half a character (a lone surrogate); mend it"
            ) from error
        return value
    if value is None and field in record:
        return ""
    reason = f"its field {field!r} holds {type(value).__name__}" if field in record else f"there is no field {field!r}"
    raise DataError(f"{where}: {reason}, not text; mend or remove this one")


def _read_csv(stream: BufferedIOBase, field: str | None, where: str) -> Iterator[str]:
    rows = _csv_rows(stream, where)
    _, header = next(filter(lambda row: row[1], rows), (where, []))
    if not header:
        return
    column = header.index(choose_field(dict.fromkeys(header, True), field, where))
    for place, row in rows:
        if row and column >= len(row):
            raise DataError(f"{place} has {len(row)} of {len(header)} columns; mend it")
        yield row[column] if row else ""


def _csv_records(stream: BufferedIOBase, where: str) -> Iterator[tuple[str, dict]]:
    rows = filter(lambda row: row[1], _csv_rows(stream, where))
    _, header = next(rows, (where, []))
    for place, row in rows:
        if len(row) < len(header):
            raise DataError(f"{place} has {len(row)} of {len(header)} columns; mend it")
        yield place, dict(zip(header, row, strict=False))


def _csv_rows(stream: BufferedIOBase, where: str) -> Iterator[tuple[str, list[str]]]:
    rows = csv.reader(line for _, line in _lines(stream, where))
    try:
        for row in rows:
            yield f"{where}, line {rows.line_num}", row
    except csv.Error as error:
        raise DataError(f"{where}, line {rows.line_num} is not CSV ({error}); mend it, or give .jsonl") from error


def _read_parquet(stream: BufferedIOBase, field: str | None, where: str) -> Iterator[str]:
    with _parquet(stream, where) as table:
        column = _text_column(table, field, where)
        for batch in table.iter_batches(batch_size=1024, columns=[column]):
            yield from (value or "" for value in batch.column(0).to_pylist())


def _parquet_records(stream: BufferedIOBase, where: str) -> Iterator[tuple[str, dict]]:
    with _parquet(stream, where) as table:
        records = (record for batch in table.iter_batches(batch_size=1024) for record in batch.to_pylist())
        yield from ((f"{where}, row {number}", record) for number, record in enumerate(records, start=1))


@contextmanager
def _parquet(stream: BufferedIOBase, where: str) -> Iterator[Any]:
    """The table in a stream; what goes wrong while it is read becomes one line."""
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(f"{where} needs the pyarrow package; run: pip install 'textcosm[data]'")
    import pyarrow
    from pyarrow import parquet

    with tempfile.TemporaryFile() as copy:
        source = _seekable(stream, copy)
        try:
            yield parquet.ParquetFile(source)
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{where} is not parquet, or cut off ({reason}); copy or download it again") from error


def _text_column(table, field: str | None, where: str) -> str:
    kinds = {column.name: str(column.type).startswith(TEXT_TYPES) for column in table.schema_arrow}
    chosen = choose_field(kinds, field, where)
    if not kinds[chosen]:
        raise DataError(f"{where}: its column {chosen!r} holds no text; it has: {', '.join(kinds)}")
    return chosen


def _seekable(stream: BufferedIOBase, copy: BufferedIOBase) -> BufferedIOBase:
    """The stream, unpacked into ``copy`` where it is packed: parquet is read from its end."""
    if not isinstance(stream, gzip.GzipFile | lzma.LZMAFile):
        return stream
    shutil.copyfileobj(stream, copy)
    copy.seek(0)
    return copy


def _lines(stream: BufferedIOBase, where: str) -> Iterator[tuple[int, str]]:
    """Numbered lines with their ends, each checked for its length and for UTF-8."""
    number = 0
    while raw := stream.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE:
            limit = f"{LONGEST_LINE // 1_000_000} MB"
            raise DataError(f"{where}, line {number} is longer than {limit}; give one text a line, each below {limit}")
        try:
            yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = f"byte 0x{raw[error.start]:02x}"
            raise DataError(f"{where}, line {number} is not UTF-8 ({byte}); convert it, e.g. with iconv") from error


TEXT_TYPES = ("string", "large_string", "dictionary<values=string", "dictionary<values=large_string")
READERS = {".txt": _read_txt, ".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
RECORD_READERS = {".jsonl": _jsonl_records, ".csv": _csv_records, ".parquet": _parquet_records}
