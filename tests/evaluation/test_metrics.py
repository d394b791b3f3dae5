"""Metrics on texts small enough to count by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textcosm.errors import DataError
from textcosm.evaluation import metrics


def test_words_are_words_and_marks_without_case():
    assert metrics.words("It's ON, Anna!") == ["it's", "on", ",", "anna", "!"]


def test_diversity_counts_unique_over_total():
    # "a b a b a": 2-grams ab ba ab ba (2 of 4), 3-grams aba bab aba (2 of 3), 4-grams abab baba (2 of 2)
    assert metrics.diversity(["a b a b a"]) == pytest.approx(2 / 4 * 2 / 3 * 2 / 2)
    assert metrics.diversity(["one two three four five", "six seven eight nine ten"]) == 1.0


def test_diversity_pools_texts():
    assert metrics.diversity(["a b c d e"] * 4) == pytest.approx(1 / 4**3)
    assert metrics.diversity([]) == 0.0
    assert metrics.diversity(["too short"]) == 0.0


def test_diversity_interval_holds_its_value():
    texts = ["the cat saw a man near the old house", "the cat saw a dog", "a man ran home", "the old house was red"]
    found = metrics.diversity_interval(texts)
    assert found.value == pytest.approx(metrics.diversity(texts))
    assert found.low < found.value < found.high


@given(st.lists(st.text("ab .", max_size=20), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_diversity_is_a_share(texts):
    assert 0 <= metrics.diversity(texts) <= 1


def test_memorisation_is_the_share_of_seen_four_grams():
    training = iter(["We ate warm bread.", "They saw the sea."])  # a stream, read once
    found = metrics.memorisation(["we ate warm bread today", "nothing here was seen before"], training)
    assert found.value == pytest.approx(1 / 4)  # (we ate warm bread) of two and two


def test_copies_ignore_case_and_spacing():
    assert metrics.copies(["We  ate.", "We ran."], ["we ate ."]) == 1


@pytest.mark.parametrize(
    ("text", "count"),
    [("One. Two! Three?", 3), ('She said "No." He left.', 2), ("It cost 3.50 dollars.", 1), ("no end", 0), ("", 0)],
)
def test_sentence_ends(text, count):
    assert metrics.sentence_count(text) == count


def test_bleu_is_one_for_the_same_text_and_small_for_another():
    references = ["The small boat crossed the wide river before noon.", "Nobody had told her that the shop was shut."]
    assert metrics.bleu(references, references).value == pytest.approx(1)
    assert metrics.bleu(["A dog.", "Rain fell."], references).value < 0.1
    assert metrics.bleu([text.lower() for text in references], references).value < 1  # case counts


def test_written_form_tells_case_from_spacing():
    same = metrics.written_form(["Anna ran home."], ["Anna ran home."])
    assert [same.words.value, same.letters.value, same.spaces.value, same.aligned.value] == [1, 1, 1, 1]
    lower = metrics.written_form(["anna ran home."], ["Anna ran home."])
    assert lower.words.value == pytest.approx(3 / 4)
    assert lower.letters.value == pytest.approx(11 / 12)
    assert lower.spaces.value == 1
    spaced = metrics.written_form(["Anna ran home ."], ["Anna ran home."])
    assert spaced.spaces.value == pytest.approx(3 / 4)
    assert spaced.words.value == 1


def test_written_form_leaves_lost_words_out():
    found = metrics.written_form(["Anna walked home."], ["Anna ran home."])
    assert found.aligned.value == pytest.approx(3 / 4)
    assert found.words.value == 1


def test_lists_of_different_length_are_refused():
    with pytest.raises(DataError, match="1 texts cannot be compared with 2 references"):
        metrics.bleu(["a"], ["a", "b"])


def test_bleu_without_sacrebleu_names_the_remedy(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sacrebleu.metrics.bleu", None)
    with pytest.raises(Exception, match=r"pip install 'textcosm\[eval\]'"):
        metrics.bleu(["a"], ["a"])
