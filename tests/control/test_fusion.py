"""The beam search: the best text of all, by the evidence for its places and for the order of its words."""

from itertools import product

import pytest
import torch

from textcosm.control.fusion import fused
from textcosm.text.ngrams import NONE, NGrams
from textcosm.text.tokenizer import SpecialTokens

START, END, PAD, MASK, THE, A, DOG, CAT, RAN = range(9)
SPECIAL = SpecialTokens(START, END, PAD, MASK)
TEXTS = [[START, THE, DOG, RAN, END]] * 5 + [[START, A, CAT, RAN, END]] * 3 + [[START, A, DOG, END]] * 2


@pytest.fixture(scope="module")
def ngrams() -> NGrams:
    lengths = torch.tensor([len(text) for text in TEXTS])
    return NGrams.of_texts(torch.tensor([t for text in TEXTS for t in text]), lengths.cumsum(0) - lengths, 9)


def decoded(scores: torch.Tensor, end: int) -> torch.Tensor:
    """The likeliest words, with an end at that place."""
    tokens = scores[..., THE:].argmax(-1) + THE
    tokens[:, 0], tokens[:, end:] = START, END
    return tokens


def fuse(ngrams, scores, tokens, weight=1.0, held=None):
    best = scores.topk(scores.shape[-1], -1)
    held = torch.zeros_like(tokens, dtype=torch.bool) if held is None else held
    return fused(ngrams, weight, best.values, best.indices, tokens, held, SPECIAL)


def worth(ngrams, scores, row, weight, end):
    """Of one whole text, added up by hand."""
    pair, total = torch.tensor([NONE]), 0.0
    for place in range(1, end + 1):
        ratio, pair = ngrams.follow(pair, torch.tensor([row[place - 1]]), torch.tensor([row[place]]))
        total += weight * float(ratio) + (float(scores[place, row[place]]) if place < end else 0.0)
    return total


def test_it_finds_the_best_of_all_texts(ngrams):
    scores = torch.randn(6, 5, 9, generator=torch.Generator().manual_seed(1))
    tokens = decoded(scores, 4)
    found = fuse(ngrams, scores, tokens)
    for row, want in zip(found.tolist(), scores, strict=True):
        every = ([START, *words, END] for words in product(range(THE, 9), repeat=3))
        assert row == max(every, key=lambda one, want=want: worth(ngrams, want, one, 1.0, 4))
    assert not torch.equal(found, tokens)


def test_a_weight_of_next_to_nothing_leaves_the_words_and_a_large_one_writes_what_stands_in_the_texts(ngrams):
    scores = torch.randn(4, 5, 9, generator=torch.Generator().manual_seed(2))
    tokens = decoded(scores, 4)
    assert torch.equal(fuse(ngrams, scores, tokens, 1e-6), tokens)
    assert all(row in TEXTS for row in fuse(ngrams, scores, tokens, 50.0).tolist())


def test_what_is_held_stays_and_the_words_around_it_follow(ngrams):
    scores = torch.zeros(1, 5, 9)
    scores[0, 1, THE] = 0.1
    tokens = decoded(scores, 4)
    tokens[0, 2] = CAT
    held = torch.zeros_like(tokens, dtype=torch.bool)
    held[0, 2] = True
    assert fuse(ngrams, scores, tokens, held=held).tolist() == [[START, A, CAT, RAN, END]]


def test_each_text_ends_where_it_did_and_is_the_same_in_any_batch(ngrams):
    scores = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(3))
    tokens = torch.cat((decoded(scores[:1], 3), decoded(scores[1:], 5)))
    tokens[0, 4:] = torch.tensor([DOG, PAD])  # behind the end anything may stand
    found = fuse(ngrams, scores, tokens)
    assert found[0, 3:].tolist() == [END, DOG, PAD] and found[1, 5] == END
    assert not torch.isin(found[0, 1:3], torch.tensor([START, END, PAD, MASK])).any()
    assert torch.equal(found[:1], fuse(ngrams, scores[:1], tokens[:1]))


def test_frames_are_no_words(ngrams):
    scores = torch.zeros(1, 4, 9)
    scores[..., [START, END, PAD, MASK]] = 9.0
    tokens = torch.tensor([[START, DOG, DOG, END]])
    best = scores.topk(4, -1)
    nothing = torch.zeros_like(tokens, dtype=torch.bool)
    assert torch.equal(fused(ngrams, 1.0, best.values, best.indices, tokens, nothing, SPECIAL), tokens)
    assert fuse(ngrams, scores, tokens).tolist() == [[START, A, DOG, END]]
