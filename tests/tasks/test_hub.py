"""What hub.py promises, with a stand-in for the `datasets` library: tests reach no hub."""

import importlib.util

import pytest

from tasks.conftest import ROWS
from textcosm.errors import DataError
from textcosm.tasks.hub import HubTask


def test_texts_are_streamed_and_split_by_hash(hub):
    task = HubTask("owner/stories", valid_fraction=0.1)
    train, valid = ([example.text for example in task.examples(split)] for split in ("train", "valid"))
    assert hub.asked == ("owner/stories", None, "train", True)
    assert 30 < len(valid) < 70
    assert sorted([*train, *valid]) == sorted(row["story"] for row in ROWS)


def test_a_configuration_follows_a_colon(hub):
    next(HubTask("owner/stories:english").examples("train"))
    assert hub.asked[:2] == ("owner/stories", "english")


def test_blank_texts_are_left_out(hub):
    hub.rows = [{"text": "a"}, {"text": None}, {"text": " "}, {"text": "b"}]
    assert [example.text for example in HubTask("x", valid_fraction=0).examples("train")] == ["a", "b"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ConnectionError("no route\nto host"), r"hf:x cannot be read \(no route\); check the name and the network"),
        ([], "hf:x holds no text"),
        (ROWS, "hf:x has no field 'text'; it has: id, story"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(hub, rows, message):
    hub.rows = rows
    with pytest.raises(DataError, match=message) as caught:
        list(HubTask("x", "text").examples("train"))
    assert "\n" not in str(caught.value)


def test_a_network_that_fails_half_way_is_told_in_one_line(hub):
    def rows():
        yield {"text": "a"}
        raise ConnectionError("reset")

    hub.rows = rows()
    texts = HubTask("x", valid_fraction=0).examples("train")
    assert next(texts).text == "a"
    with pytest.raises(DataError, match=r"cannot be read \(reset\)"):
        next(texts)


def test_without_the_library_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"hf:x needs the datasets package; run: pip install 'textcosm\[data\]'"):
        HubTask("x")


def test_a_name_is_needed(hub):
    with pytest.raises(DataError, match="give hf:OWNER/NAME"):
        HubTask("")
