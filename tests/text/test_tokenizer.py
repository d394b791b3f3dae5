"""What tokenizer.py promises: padded tokens with forms, and the way back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textcosm.errors import BackboneError, ConfigError, DataError
from textcosm.text.tiny import TinyBackbone
from textcosm.text.tokenizer import Tokenizer

TEXTS = [
    "Mia found a red bike in the park. She asked everyone about it.",
    'Nobody knew, so she kept it "for now". THE END!',
    "",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return TinyBackbone().tokenizer


def test_texts_come_back_character_for_character(tokenizer):
    batch = tokenizer.tokenize(TEXTS, 128)
    assert tokenizer.detokenize(batch.tokens, batch.forms) == TEXTS
    assert batch.cut == 0


def test_rows_are_framed_and_padded_to_the_longest(tokenizer):
    batch = tokenizer.tokenize(TEXTS, 128)
    lengths = batch.mask.sum(1)
    assert batch.tokens.shape == batch.mask.shape == batch.forms.shape == (3, int(lengths.max()))
    assert lengths[2] == 2
    for row, length, forms in zip(batch.tokens, lengths.tolist(), batch.forms, strict=True):
        assert row[0] == tokenizer.start_id
        assert row[length - 1] == tokenizer.end_id
        assert (row[length:] == tokenizer.pad_id).all()
        assert not forms[length - 1 :].any()


def test_long_texts_are_cut_counted_and_still_end(tokenizer):
    batch = tokenizer.tokenize(TEXTS, 6)
    assert batch.cut == 2
    assert batch.tokens.shape == (3, 6)
    assert (batch.tokens[:2, -1] == tokenizer.end_id).all()
    assert tokenizer.detokenize(batch.tokens, batch.forms)[1] == "Nobod"


@pytest.mark.parametrize("extra", [0, 1])
def test_a_text_that_just_fits_is_not_cut(tokenizer, extra):
    assert tokenizer.tokenize(["the cat ran"], 5 - extra).cut == extra


def test_reading_stops_at_the_first_end_token(tokenizer):
    batch = tokenizer.tokenize(["the cat ran"], 8)
    again = torch.cat([batch.tokens, batch.tokens], dim=1)
    assert tokenizer.detokenize(again, torch.cat([batch.forms, batch.forms], dim=1)) == ["the cat ran"]


def test_tokens_without_a_start_or_an_end_are_read_too(tokenizer):
    batch = tokenizer.tokenize(["the cat ran"], 8)
    assert tokenizer.detokenize(batch.tokens[:, 1:-1], batch.forms[:, 1:-1]) == ["the cat ran"]


def test_special_tokens_spelt_out_in_a_text_are_plain_text(tokenizer):
    batch = tokenizer.tokenize(["a [SEP] b [MASK] c"], 64)
    assert (batch.tokens == tokenizer.end_id).sum() == 1
    assert tokenizer.detokenize(batch.tokens, batch.forms) == ["a [SEP] b [MASK] c"]


def test_no_texts_make_an_empty_batch(tokenizer):
    batch = tokenizer.tokenize([], 16)
    assert batch.tokens.shape == (0, 0)
    assert tokenizer.detokenize(batch.tokens, batch.forms) == []


def test_a_limit_without_room_for_text_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="max_length is 2; give 3 or more"):
        tokenizer.tokenize(TEXTS, 2)


def test_half_a_character_is_refused(tokenizer):
    with pytest.raises(DataError, match="half a character"):
        tokenizer.tokenize(["fine", "a \ud800 b"], 9)


def test_json_holds_everything(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json())
    ours, theirs = tokenizer.tokenize(TEXTS, 32), again.tokenize(TEXTS, 32)
    assert torch.equal(ours.tokens, theirs.tokens)
    assert again.special == tokenizer.special
    assert again.vocab_size == tokenizer.vocab_size
    assert again.to_json() == tokenizer.to_json()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"special": {}, "tokenizer": {}}'])
def test_other_json_is_refused_in_one_line(content):
    with pytest.raises(BackboneError, match="not what Tokenizer.to_json writes") as caught:
        Tokenizer.from_json(content)
    assert "\n" not in str(caught.value)


SIGNS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"-()"
WORD = st.text(SIGNS, min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(WORD.flatmap(lambda word: st.sampled_from([word, word.upper()])), max_size=12))
def test_words_of_known_signs_in_one_case_come_back(tokenizer, words):
    text = " ".join(words)
    batch = tokenizer.tokenize([text], 256)
    assert tokenizer.detokenize(batch.tokens, batch.forms) == [text]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40))
def test_any_text_can_be_read_and_written(tokenizer, text):
    batch = tokenizer.tokenize([text], 64)
    assert len(tokenizer.detokenize(batch.tokens, batch.forms)) == 1
    assert tokenizer.default_forms(batch.tokens).shape == batch.tokens.shape
