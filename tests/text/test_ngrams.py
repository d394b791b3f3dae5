"""What follows what: ratios that are those of probabilities, tables that come back as they were."""

import pytest
import torch

from textcosm.errors import CheckpointError
from textcosm.text.ngrams import DISCOUNT, NONE, NGrams

START, END, THE, A, DOG, CAT, RAN = range(7)
TEXTS = [[START, THE, DOG, RAN, END]] * 4 + [[START, THE, CAT, RAN, END]] * 2 + [[START, A, DOG, END]] * 3 + [[START, A, CAT, END]]


def made(texts=TEXTS, vocab_size=9) -> NGrams:
    lengths = torch.tensor([len(text) for text in texts])
    flat = torch.tensor([token for text in texts for token in text], dtype=torch.int32)
    return NGrams.of_texts(flat, lengths.cumsum(0) - lengths, vocab_size)


def ratios(ngrams: NGrams, *context: int) -> torch.Tensor:
    """Of every token after these."""
    pair = torch.tensor([NONE])
    for last, token in zip(context, context[1:], strict=False):
        _, pair = ngrams.follow(pair, torch.tensor([last]), torch.tensor([token]))
    tokens = torch.arange(ngrams.vocab_size)
    return ngrams.follow(pair.expand_as(tokens), torch.full_like(tokens, context[-1]), tokens)[0]


def test_ratios_times_frequencies_are_probabilities():
    ngrams = made()
    share = ngrams.unigrams / ngrams.unigrams.sum()
    for context in ([THE], [START, THE], [DOG], [THE, DOG], [A], [7], [RAN, THE]):
        assert float((ratios(ngrams, *context).exp() * share).sum()) == pytest.approx(1, abs=1e-5)


def test_a_run_that_was_seen_is_worth_its_count_and_what_is_left_goes_to_shorter_ones():
    ngrams = made()
    share = ngrams.unigrams / ngrams.unigrams.sum()
    assert ngrams.unigrams.tolist() == [10, 10, 6, 4, 7, 3, 6, 0, 0]
    left = 1 - (4 - DISCOUNT) / 6 - (2 - DISCOUNT) / 6
    after_the = ratios(ngrams, THE).exp()
    assert float(after_the[DOG]) == pytest.approx((4 - DISCOUNT) / 6 / float(share[DOG]) + left, rel=1e-5)
    assert after_the[[A, 8]].tolist() == pytest.approx([left, left], rel=1e-5)
    assert ratios(ngrams, 7).exp().unique().tolist() == [1.0]  # after a token that no text holds, nothing is known
    after_a = ratios(ngrams, A).exp()
    assert after_a[CAT] == after_a[RAN]  # "a cat" stands once, which is not kept
    assert ratios(ngrams, START, THE)[DOG] > ratios(ngrams, THE)[DOG] > 0 > ratios(ngrams, THE)[RAN]
    after_two = ratios(ngrams, THE, DOG).exp()
    left = 1 - (4 - DISCOUNT) / 4
    shorter = float(ratios(ngrams, DOG).exp()[RAN])
    assert float(after_two[RAN]) == pytest.approx((4 - DISCOUNT) / 4 / float(share[RAN]) + left * shorter, rel=1e-5)


def test_nothing_runs_over_the_end_of_a_text():
    ngrams = made()
    assert ratios(ngrams, END).exp().unique().tolist() == [1.0]
    assert ngrams.bigrams.find(torch.tensor([END]), torch.tensor([START])) == (0, NONE)


def test_tables_are_small_and_come_back():
    ngrams = made()
    state = ngrams.state_dict()
    assert {table.dtype for table in state.values()} == {torch.int16} and len(state) == 7
    again = NGrams(state)
    assert torch.equal(ratios(again, START, THE), ratios(ngrams, START, THE))
    wide = made([[START, 40_000, END]] * 2, 40_001)
    assert wide.bigrams.tokens.dtype == torch.int32 and ratios(wide, START)[40_000] > 0
    with pytest.raises(CheckpointError, match=r"no tables of n-grams \(see 'trigrams.offsets'\): save the model again"):
        NGrams({name: table for name, table in state.items() if name != "trigrams.offsets"})


def test_texts_too_few_for_any_run():
    ngrams = made([[START, THE, END]])
    assert not len(ngrams.bigrams.keys) and ratios(ngrams, START).exp().unique().tolist() == [1.0]
