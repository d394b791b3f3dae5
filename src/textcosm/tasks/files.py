"""Texts from a file, one at a time: .txt, .jsonl, .csv and .parquet, each also .gz or .xz."""

import csv
import gzip
import importlib.util
import json
import lzma
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from textcosm.errors import ConfigError, DataError
from textcosm.tasks.task import Example, choose_field, examples_of

LONGEST_LINE = 10_000_000
"""Bytes in a line; a longer one is taken for a file without line ends, not for a text."""
OPENERS = {".gz": gzip.open, ".xz": lzma.open}
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError)
"""What the decompressors raise for a file that is cut off or altered."""


@dataclass(frozen=True)
class DataConfig:
    """How texts are read from a file or a hub dataset.

    text_field: the field or column of the text; None takes "text", or the only field that holds text.
    valid_fraction: the share of texts kept out of training, chosen by a hash of the text itself.
    """

    text_field: str | None = None
    valid_fraction: float = 0.02

    def __post_init__(self):
        if not 0 <= self.valid_fraction < 1:
            raise ConfigError(f"valid_fraction is {self.valid_fraction}; give a share from 0 to below 1, such as 0.02")


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
    reader = _reader_of(path)
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
    """The objects of a .jsonl file (also .gz, .xz), streamed, with all their fields; raises DataError as read_texts."""
    path = Path(path).expanduser()
    if _reader_of(path) is not _read_jsonl:
        raise DataError(f"{path} holds no records; give a .jsonl file, also .gz or .xz")
    try:
        with OPENERS.get(path.suffix.lower(), open)(path, "rb") as stream:
            for number, line in _lines(cast(BufferedIOBase, stream), str(path)):
                if not line.isspace():
                    yield _record(line, f"{path}, line {number}")
    except BROKEN as error:
        raise DataError(f"{path} is cut off or altered ({error}); copy or download it again") from error


def _reader_of(path: Path):
    """The function that reads this kind of file, once it is sure that there is a file."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a file in it")
    if not path.exists():
        raise DataError(f"{path} does not exist; check the name")
    kind = path.with_suffix("").suffix if path.suffix.lower() in OPENERS else path.suffix
    reader = READERS.get(kind.lower())
    if reader is None:
        raise DataError(f"{path} is of no known kind; give {', '.join(READERS)}, or one of these with .gz or .xz")
    return reader


def _read_txt(stream: BufferedIOBase, field: str | None, where: str) -> Iterator[str]:
    if field is not None:
        raise DataError(f"{where} is plain text and has no field {field!r}; leave --text-field out")
    for _, line in _lines(stream, where):
        yield line.strip()


def _read_jsonl(stream: BufferedIOBase, field: str | None, where: str) -> Iterator[str]:
    chosen = None
    for number, line in _lines(stream, where):
        if line.isspace():
            continue
        record = _record(line, f"{where}, line {number}")
        if chosen is None:
            chosen = choose_field({key: isinstance(value, str) for key, value in record.items()}, field, where)
        yield _text_in(record, chosen, f"{where}, line {number}")


def _record(line: str, where: str) -> dict:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}); give one object a line") from error
    if not isinstance(record, dict):
        raise DataError(f"{where} is not a JSON object but {type(record).__name__}; give one object a line")
    return record


def _text_in(record: dict, field: str, where: str) -> str:
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
    rows = csv.reader(line for _, line in _lines(stream, where))
    try:
        header = next(filter(None, rows), None)
        if header is None:
            return
        column = header.index(choose_field(dict.fromkeys(header, True), field, where))
        for row in rows:
            if row and column >= len(row):
                raise DataError(f"{where}, line {rows.line_num} has {len(row)} of {len(header)} columns; mend it")
            yield row[column] if row else ""
    except csv.Error as error:
        raise DataError(f"{where}, line {rows.line_num} is not CSV ({error}); mend it, or give .jsonl") from error


def _read_parquet(stream: BufferedIOBase, field: str | None, where: str) -> Iterator[str]:
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError(f"{where} needs the pyarrow package; run: pip install 'textcosm[data]'")
    import pyarrow
    from pyarrow import parquet

    with tempfile.TemporaryFile() as copy:
        source = _seekable(stream, copy)
        try:
            table = parquet.ParquetFile(source)
            column = _text_column(table, field, where)
            for batch in table.iter_batches(batch_size=1024, columns=[column]):
                yield from (value or "" for value in batch.column(0).to_pylist())
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
