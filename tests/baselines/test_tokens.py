"""The rivals' vocabulary holds what the texts have, and nothing else."""

import pytest
import torch

from textcosm.baselines.tokens import Vocabulary
from textcosm.errors import CheckpointError
from textcosm.text.tokenizer import SpecialTokens

SPECIAL = SpecialTokens(start=101, end=102, pad=0, mask=103)


@pytest.fixture
def vocabulary():
    return Vocabulary.of(torch.tensor([101, 7, 5, 102, 101, 900, 7, 102], dtype=torch.int32), SPECIAL)


def test_it_keeps_the_tokens_of_the_texts_and_those_that_frame_them(vocabulary):
    assert vocabulary.kept.tolist() == [0, 5, 7, 101, 102, 900]
    assert (vocabulary.pad, vocabulary.start, vocabulary.end, vocabulary.mask) == (0, 3, 4, 6)
    assert len(vocabulary) == 7


def test_ids_there_and_back(vocabulary):
    tokens = torch.tensor([[101, 900, 102], [5, 7, 0]])
    assert vocabulary.shrink(tokens).tolist() == [[3, 5, 4], [1, 2, 0]]
    assert vocabulary.widen(vocabulary.shrink(tokens)).equal(tokens)


def test_a_token_never_seen_is_the_mask(vocabulary):
    assert vocabulary.shrink(torch.tensor([[1, 6, 899, 30521]])).tolist() == [[6, 6, 6, 6]]


def test_an_end_that_is_also_the_padding_is_one_token():
    vocabulary = Vocabulary.of(torch.tensor([1, 8, 2]), SpecialTokens(start=1, end=2, pad=2, mask=2))
    assert vocabulary.end == vocabulary.pad == 1
    assert vocabulary.mask == 3


def test_to_json_and_back(vocabulary):
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again.kept.equal(vocabulary.kept)
    assert (again.start, again.end, again.pad) == (vocabulary.start, vocabulary.end, vocabulary.pad)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kept": [1], "start": 0, "end": 0}'])
def test_anything_else_is_refused_in_a_line(content):
    with pytest.raises(CheckpointError, match="not a vocabulary of a rival"):
        Vocabulary.from_json(content)
