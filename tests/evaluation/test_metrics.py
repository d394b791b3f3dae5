"""Metrics on texts small enough to count by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textcosm.errors import ConfigError, DataError
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


def test_bleu_takes_the_best_of_several_references_and_some_texts_have_more_than_others():
    from sacrebleu import corpus_bleu

    texts = ["the cat sat on the old red mat", "nobody saw the small boat go by", "we ate warm bread at home"]
    references = [["the cat sat on a mat", "a cat sat on the old mat"], ["nobody saw the small boat"], ["we ate bread"]]
    streams = [[mine[0] for mine in references], [references[0][1], None, None]]
    assert metrics.bleu(texts, references).value == pytest.approx(corpus_bleu(texts, streams).score / 100, abs=1e-9)
    alone = metrics.bleu(texts, [mine[0] for mine in references])
    assert alone.value == pytest.approx(corpus_bleu(texts, streams[:1]).score / 100, abs=1e-9)
    assert alone == metrics.bleu(texts, [mine[:1] for mine in references])


def test_self_bleu_is_the_librarys_sentence_bleu_against_all_others():
    from sacrebleu import sentence_bleu

    texts = [
        "The dog ran home, and the dog ran back.", "The dog ran home.", "A dog ran back to the house!", "the", "Yes, the dog.",
        "The dog ran home.", "It cost 3.50 dollars and the dog ran the dog ran the dog.",
    ]  # fmt: skip
    scores = [sentence_bleu(text, texts[:i] + texts[i + 1 :]).score / 100 for i, text in enumerate(texts)]
    found = metrics.self_bleu(texts)
    assert found.value == pytest.approx(sum(scores) / len(scores), abs=1e-9)
    assert found.low <= found.value <= found.high
    assert metrics.self_bleu(["", *texts, " "]).value == pytest.approx(found.value)
    one = metrics.self_bleu(texts, sample=1, seed=3)
    assert one == metrics.self_bleu(texts, sample=1, seed=3) and one.value in [pytest.approx(score) for score in scores]


@given(st.lists(st.text("ab ", min_size=1, max_size=12).filter(str.strip), min_size=2, max_size=6))
@settings(max_examples=50, deadline=None)
def test_self_bleu_agrees_with_the_library_on_any_texts(texts):
    from sacrebleu import sentence_bleu

    scores = [sentence_bleu(text, texts[:i] + texts[i + 1 :]).score / 100 for i, text in enumerate(texts)]
    assert metrics.self_bleu(texts).value == pytest.approx(sum(scores) / len(scores), abs=1e-6)


def test_self_bleu_of_one_text_is_refused():
    with pytest.raises(DataError, match="1 texts: give at least 1 of 2 that are not empty"):
        metrics.self_bleu(["alone", ""])


def test_rouge_is_the_librarys_best_of_several_references():
    # against "the cat ran": 1-grams the, cat (F1 2*2/(4+3)), 2-grams "the cat" (2*1/(3+2)), in order: the cat
    found = metrics.rouge(["the cat sat down"], [["the cat ran", "nothing alike at all"]])
    assert found.rouge1.value == pytest.approx(4 / 7)
    assert found.rouge2.value == pytest.approx(2 / 5)
    assert found.rougeL.value == pytest.approx(4 / 7)
    assert metrics.rouge(["cats running"], ["cat runs"]).rouge2.value == 1  # stemmed
    two = metrics.rouge(["the cat sat down", "cats running"], ["the cat ran", "cat runs"])
    assert two.rouge1.value == pytest.approx((4 / 7 + 1) / 2)


def test_a_text_without_a_reference_is_refused():
    with pytest.raises(DataError, match="1 texts have no reference, first text 2"):
        metrics.rouge(["a", "b"], [["a"], []])


def test_lengths():
    found = metrics.lengths(["One two.", "One two three four five! Six?", "a b c"])  # 3, 8 and 3 words and marks
    assert found.words.value == pytest.approx(14 / 3)
    assert found.words_std == pytest.approx((((5 / 3) ** 2 * 2 + (10 / 3) ** 2) / 3) ** 0.5)
    assert (found.words_min, found.words_median, found.words_max) == (3, 3.0, 8)
    assert found.sentences.value == 1
    with pytest.raises(DataError, match="0 texts"):
        metrics.lengths([])


@pytest.mark.parametrize(("module", "measure"), [("sacrebleu.metrics.bleu", "self_bleu"), ("rouge_score.rouge_scorer", "rouge")])
def test_a_missing_package_names_the_remedy(monkeypatch, module, measure):
    import sys

    monkeypatch.setitem(sys.modules, module, None)
    inputs = [["a b", "c d"]] * (1 if measure == "self_bleu" else 2)
    with pytest.raises(ConfigError, match=r"pip install 'textcosm\[eval\]'"):
        getattr(metrics, measure)(*inputs)


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
