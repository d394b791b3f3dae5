"""Stores of texts and rows: what goes in comes out, whole or not at all."""

import json
import os
from pathlib import Path

import pytest
import torch

from textcosm.errors import TrainingError
from textcosm.text.backbone import BackboneConfig, open_backbone
from textcosm.training.cache import (
    Stopped,
    TextStore,
    check_settings,
    is_made,
    open_rows,
    write_rows,
    write_texts,
)

TEXTS = ["The cat sat.", "Tom ran home and Ann sang all day long.", "Yes!", "A dog barked at the red moon."]
CPU = torch.device("cpu")


def never():
    return False


@pytest.fixture(scope="module")
def backbone():
    return open_backbone(BackboneConfig("tiny"))


@pytest.fixture
def store(tmp_path, backbone):
    list(write_texts(tmp_path / "texts", [TEXTS[:3], TEXTS[3:]], backbone, 16, {"seed": 1}, never))
    return TextStore(tmp_path / "texts")


def test_texts_come_back_in_any_batch(store, backbone):
    whole = backbone.tokenize(TEXTS, 16)
    assert (len(store), store.main, store.cut) == (4, 3, whole.cut) and whole.cut > 0
    batch = store.batch([3, 0], CPU)
    wanted = backbone.tokenize([TEXTS[3], TEXTS[0]], 16)
    assert torch.equal(batch.tokens, wanted.tokens)
    assert torch.equal(batch.forms, wanted.forms)
    assert torch.equal(batch.mask, wanted.mask)
    assert batch.activations is None


def test_lengths_are_rounded_up_within_the_limit(store):
    natural = store.batch([0], CPU).tokens.shape[1]
    assert store.batch([0], CPU, multiple=16, limit=32).tokens.shape[1] == 16
    assert store.batch([0], CPU, multiple=16, limit=natural + 1).tokens.shape[1] == natural + 1
    padded = store.batch([0], CPU, multiple=16)
    assert not padded.mask[:, natural:].any() and (padded.tokens[:, natural:] == store.pad_id).all()


def test_what_was_left_out_is_kept(tmp_path, backbone, store):
    list(write_texts(tmp_path / "more", [TEXTS], backbone, 16, {}, never, lambda: 7))
    assert TextStore(tmp_path / "more").left_out == 7 and store.left_out == 0
    meta = json.loads((tmp_path / "more" / "meta.json").read_text())
    del meta["left_out"]  # stores of an earlier version
    (tmp_path / "more" / "meta.json").write_text(json.dumps(meta))
    assert TextStore(tmp_path / "more").left_out == 0


def encode(store, backbone, directory, stop=never, settings=None):
    """Cache activations, two texts at a time."""

    def rows_of(indices):
        places, mask = store.positions(indices)
        batch = store.batch(indices, CPU)
        return places[mask], backbone.encode(batch.tokens, batch.mask)[batch.mask]

    parts = list(torch.arange(4).split(2))
    return write_rows(directory, (len(store.tokens), 32), parts, rows_of, settings or {"layer": 1}, stop)


def test_activations_come_back_to_half_precision(store, backbone, tmp_path):
    assert list(encode(store, backbone, tmp_path / "rows")) == [1, 2]
    cached = TextStore(tmp_path / "texts", tmp_path / "rows").batch([1, 2], CPU)
    wanted = backbone.encode(cached.tokens, cached.mask) * cached.mask[..., None]
    torch.testing.assert_close(cached.activations, wanted, atol=2e-3, rtol=2e-3)


def test_stopped_rows_go_on_where_they_were(store, backbone, tmp_path):
    with pytest.raises(Stopped):
        list(encode(store, backbone, tmp_path / "rows", stop=lambda: True))
    assert not (tmp_path / "rows").exists()
    assert list(encode(store, backbone, tmp_path / "rows")) == [2]
    list(encode(store, backbone, tmp_path / "whole"))
    assert torch.equal(open_rows(tmp_path / "rows"), open_rows(tmp_path / "whole"))


def test_stopped_rows_of_other_settings_start_again(store, backbone, tmp_path):
    with pytest.raises(Stopped):
        list(encode(store, backbone, tmp_path / "rows", stop=lambda: True))
    assert list(encode(store, backbone, tmp_path / "rows", settings={"layer": 2})) == [1, 2]


def test_stopped_texts_leave_nothing(backbone, tmp_path):
    with pytest.raises(Stopped):
        list(write_texts(tmp_path / "texts", [TEXTS], backbone, 16, {}, lambda: True))
    assert list(tmp_path.iterdir()) == []


def test_no_texts_are_an_empty_store(backbone, tmp_path):
    list(write_texts(tmp_path / "texts", [[]], backbone, 16, {}, never))
    assert len(TextStore(tmp_path / "texts")) == 0
    list(write_rows(tmp_path / "rows", (0, 4), [], lambda part: part, {}, never))
    assert open_rows(tmp_path / "rows").shape == (0, 4)


def test_huge_activations_are_held_within_float16(tmp_path):
    huge = torch.tensor([[1e6, -1e6]])
    list(write_rows(tmp_path / "rows", (1, 2), [0], lambda part: (torch.tensor([0]), huge), {}, never))
    assert open_rows(tmp_path / "rows").tolist() == [[65504.0, -65504.0]]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(TrainingError, match=r"has no room for 0\.0 GB \(No space left"):
        list(write_rows(tmp_path / "rows", (1, 2), [0], lambda part: part, {}, never))
    assert list(tmp_path.iterdir()) == []


def test_other_settings_are_named(store, tmp_path):
    assert is_made(tmp_path / "texts", {"seed": 1})
    assert not is_made(tmp_path / "elsewhere", {"seed": 1})
    with pytest.raises(TrainingError, match="texts was made with seed = 1, not 2; give another folder, or delete"):
        is_made(tmp_path / "texts", {"seed": 2})


def test_settings_are_compared_as_json():
    check_settings(
        Path("run"), {"betas": (0.9, 0.98), "model": {"width": 4}}, {"betas": [0.9, 0.98], "model": {"width": 4}}
    )
    with pytest.raises(TrainingError, match=r"model\.width = 4, not 8"):
        check_settings(Path("run"), {"model": {"width": 8}}, {"model": {"width": 4}})
    with pytest.raises(TrainingError, match=r"new = \"\(unset\)\", not 1"):
        check_settings(Path("run"), {"new": 1}, {})


def test_a_store_cut_short_is_one_line(store, tmp_path):
    (tmp_path / "texts" / "tokens.bin").write_bytes(b"1234")
    with pytest.raises(TrainingError, match="is missing or too short"):
        TextStore(tmp_path / "texts")
    (tmp_path / "texts" / "meta.json").write_text("{")
    with pytest.raises(TrainingError, match="is not a whole cache"):
        TextStore(tmp_path / "texts")
