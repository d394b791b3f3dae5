"""What files.py promises: texts from every kind of file, and one clear line for every bad one."""

import csv
import gzip
import json
import lzma
from pathlib import Path

import pytest

from textcosm.errors import ConfigError, DataError
from textcosm.tasks.files import LONGEST_LINE, DataConfig, FileTask, read_texts

TEXTS = ["Bo ran home.", 'She said, "Caf\u00e9?"', "Line three, with a comma.", "\U0001f600 again"]


def encode_txt(texts: list[str]) -> bytes:
    return "\n".join([*texts[:2], "", "  ", *texts[2:]]).encode()


def encode_jsonl(texts: list[str]) -> bytes:
    return "\r\n".join(json.dumps({"id": 7, "text": text}) for text in [*texts, " "]).encode() + b"\n\n"


def encode_parquet(texts: list[str]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow", reason="the data extra is not installed")
    from pyarrow import parquet

    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.table({"id": [1] * (len(texts) + 1), "text": [*texts, None]}), sink)
    return sink.getvalue().to_pybytes()


def write(path: Path, content: bytes) -> Path:
    pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(content))
    return path


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    plain = path.with_name("plain")
    with plain.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows(rows)
    return write(path, plain.read_bytes())


def refused(path: Path | str, field: str | None = None) -> str:
    """The one line that reading this file ends with."""
    with pytest.raises(DataError) as caught:
        list(read_texts(path, field))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


ENCODERS = {".txt": encode_txt, ".jsonl": encode_jsonl, ".parquet": encode_parquet}


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_texts_are_read_from_every_kind_and_packing(kind, packing, tmp_path):
    path = write(tmp_path / f"data{kind}{packing}", ENCODERS[kind](TEXTS))
    assert list(read_texts(path)) == TEXTS


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
def test_texts_are_read_from_csv(packing, tmp_path):
    texts = [*TEXTS, "two\nlines"]
    path = write_csv(tmp_path / f"data.csv{packing}", [["id", "text"], *(["1", text] for text in texts)])
    assert list(read_texts(path)) == texts


def test_endings_may_be_in_capitals(tmp_path):
    assert list(read_texts(write(tmp_path / "DATA.TXT", encode_txt(TEXTS)))) == TEXTS


def test_reading_is_streamed(tmp_path):
    path = write(tmp_path / "data.txt", b"first\nsecond\n\xff\n")
    texts = read_texts(path)
    assert [next(texts), next(texts)] == ["first", "second"]


# Which field


def jsonl(folder: Path, *records: object) -> Path:
    return write(folder / "data.jsonl", "\n".join(map(json.dumps, records)).encode())


@pytest.mark.parametrize("record", [{"body": "x", "n": 1}, {"body": "x"}])
def test_the_only_field_of_text_is_found(record, tmp_path):
    assert list(read_texts(jsonl(tmp_path, record))) == ["x"]


def test_the_field_named_text_comes_first(tmp_path):
    assert list(read_texts(jsonl(tmp_path, {"title": "t", "text": "x"}))) == ["x"]


def test_a_wanted_field_is_taken(tmp_path):
    assert list(read_texts(jsonl(tmp_path, {"title": "t", "text": "x"}), "title")) == ["t"]


def test_a_wrong_field_is_answered_with_those_there_are(tmp_path):
    for path in (jsonl(tmp_path, {"title": "t", "n": 1}), write_csv(tmp_path / "a.csv", [["title", "n"], ["t", "1"]])):
        assert "no field 'story'; it has: title, n. Name one of these with --text-field" in refused(path, "story")


def test_a_wrong_column_of_parquet_is_answered_too(tmp_path):
    path = write(tmp_path / "data.parquet", encode_parquet(TEXTS))
    assert "no field 'story'; it has: id, text" in refused(path, "story")
    assert "column 'id' holds no text" in refused(path, "id")


def test_text_of_any_type_that_parquet_has_is_text(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the data extra is not installed")
    from pyarrow import parquet

    texts = pyarrow.array(TEXTS)
    for column in (texts, texts.cast(pyarrow.large_string()), texts.dictionary_encode()):
        parquet.write_table(pyarrow.table({"story": column, "n": [[""]] * len(TEXTS)}), tmp_path / "data.parquet")
        assert list(read_texts(tmp_path / "data.parquet")) == TEXTS


def test_several_fields_of_text_need_a_name(tmp_path):
    assert "2 fields of text; it has: a, b. Name one with --text-field" in refused(jsonl(tmp_path, {"a": "", "b": ""}))


def test_plain_text_has_no_fields(tmp_path):
    assert "has no field 'text'" in refused(write(tmp_path / "data.txt", b"x"), "text")


# Bad files


def test_a_missing_file(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.txt")


def test_a_folder(tmp_path):
    assert "is a folder" in refused(tmp_path)


def test_a_file_of_no_known_kind(tmp_path):
    for name in ("data.docx", "data", "data.gz"):
        assert ".txt, .jsonl, .csv, .parquet" in refused(write(tmp_path / name, b"x"))


@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv"])
@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file(kind, content, tmp_path):
    assert "holds no text" in refused(write(tmp_path / f"data{kind}", content))


def test_a_table_without_rows(tmp_path):
    assert "holds no text" in refused(write_csv(tmp_path / "data.csv", [["text"]]))
    assert "holds no text" in refused(write(tmp_path / "data.parquet", encode_parquet([])), "text")


def test_an_empty_parquet_file(tmp_path):
    pytest.importorskip("pyarrow", reason="the data extra is not installed")
    assert "is not parquet, or cut off" in refused(write(tmp_path / "data.parquet", b""))


@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv"])
def test_another_encoding(kind, tmp_path):
    content = {".txt": "ok\ncaf\u00e9", ".jsonl": '{"text": "ok"}\n{"text": "caf\u00e9"}', ".csv": "text\ncaf\u00e9"}[
        kind
    ]
    assert "line 2 is not UTF-8 (byte 0xe9)" in refused(write(tmp_path / f"data{kind}", content.encode("latin-1")))


def test_a_binary_file(tmp_path):
    assert "line 2 is not UTF-8 (byte 0x80)" in refused(write(tmp_path / "data.txt", bytes(range(256))))


@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv"])
def test_a_line_of_ten_megabytes(kind, tmp_path):
    head = {".txt": b"ok\n", ".jsonl": b'{"text": "ok"}\n', ".csv": b"text\n"}[kind]
    path = write(tmp_path / f"data{kind}", head + b"x" * (LONGEST_LINE + 1))
    assert "line 2 is longer than 10 MB; give one text a line" in refused(path)


def test_a_line_just_below_the_limit_is_read(tmp_path):
    path = write(tmp_path / "data.txt", b"x" * (LONGEST_LINE - 1) + b"\nlast")
    assert [len(text) for text in read_texts(path)] == [LONGEST_LINE - 1, 4]


@pytest.mark.parametrize("line", ['{"text": ', "plain words", "[" * 100_000])
def test_bad_json(line, tmp_path):
    path = write(tmp_path / "data.jsonl", f'{{"text": "ok"}}\n\n{line}'.encode())
    assert "line 3 is not JSON" in refused(path)


def test_json_that_is_no_object(tmp_path):
    assert "line 2 is not a JSON object but list" in refused(jsonl(tmp_path, {"text": "x"}, ["x"]))


def test_a_record_without_the_field_or_with_another_kind_in_it(tmp_path):
    assert "line 2: there is no field 'text'" in refused(jsonl(tmp_path, {"text": "x"}, {"body": "x"}))
    assert "line 2: its field 'text' holds int" in refused(jsonl(tmp_path, {"text": "x"}, {"text": 1}))


def test_half_a_character(tmp_path):
    assert "line 2: its field 'text' holds half a character" in refused(
        jsonl(tmp_path, {"text": "x"}, {"text": "\ud83d"})
    )
    assert list(read_texts(jsonl(tmp_path, {"text": "\U0001f600"}))) == ["\U0001f600"]


def test_a_null_is_a_blank_text(tmp_path):
    assert list(read_texts(jsonl(tmp_path, {"text": "x"}, {"text": None}, {"text": "y"}))) == ["x", "y"]


def test_a_short_row_of_csv(tmp_path):
    path = write_csv(tmp_path / "data.csv", [["id", "text"], ["1", "x"], ["2"]])
    assert "line 3 has 1 of 2 columns" in refused(path)


def test_a_field_of_csv_beyond_what_its_reader_takes(tmp_path):
    path = write_csv(tmp_path / "data.csv", [["text"], ["x" * 200_000]])
    assert "line 2 is not CSV (field larger than field limit" in refused(path)


@pytest.mark.parametrize("packing", [".gz", ".xz"])
@pytest.mark.parametrize("kind", [".txt", ".parquet"])
def test_a_packed_file_that_is_cut_off_or_not_packed_at_all(kind, packing, tmp_path):
    path = write(tmp_path / f"data{kind}{packing}", {".txt": encode_txt, ".parquet": encode_parquet}[kind](TEXTS * 99))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is cut off or altered" in refused(path)
    path.write_bytes(b"plain words, not packed")
    assert "is cut off or altered" in refused(path)


def test_a_parquet_file_that_is_cut_off_or_something_else(tmp_path):
    whole = encode_parquet(TEXTS)
    for content in (whole[: len(whole) // 2], b"plain words", whole[:-20] + b"x" * 12 + whole[-8:]):
        assert "is not parquet, or cut off" in refused(write(tmp_path / "data.parquet", content))


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'textcosm[data]'" in refused(write(tmp_path / "data.parquet", b""))


# The task


def many(folder: Path) -> Path:
    return write(folder / "data.txt", "\n".join(f"Story number {i}." for i in range(2000)).encode())


def test_the_splits_part_the_texts_in_their_order(tmp_path):
    task = FileTask(many(tmp_path), valid_fraction=0.1)
    train, valid = ([example.text for example in task.examples(split)] for split in ("train", "valid"))
    assert 150 < len(valid) < 250
    assert sorted([*train, *valid]) == sorted(read_texts(task.path))
    assert train == [text for text in read_texts(task.path) if text not in set(valid)]


def test_a_text_stays_on_its_side_in_another_file(tmp_path):
    path = many(tmp_path)
    turned = write(tmp_path / "turned.txt", "\n".join(reversed(path.read_text().split("\n")[:1000])).encode())
    one, two = ({example.text for example in FileTask(p).examples("valid")} for p in (path, turned))
    assert two < one


def test_no_validation_texts_with_a_fraction_of_zero(tmp_path):
    task = FileTask(many(tmp_path), valid_fraction=0)
    assert not list(task.examples("valid"))
    assert len(list(task.examples("train"))) == 2000


def test_another_split_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no split 'test'; choose one of train, valid"):
        FileTask(many(tmp_path)).examples("test")


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(ConfigError, match="valid_fraction is"):
        DataConfig(valid_fraction=fraction)
