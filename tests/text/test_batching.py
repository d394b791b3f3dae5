"""What batching.py promises: every text once, little padding, another order with another seed."""

import pytest
import torch

from textcosm.errors import ConfigError
from textcosm.text.batching import length_buckets


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LENGTHS = torch.randint(10, 100, (5000,), generator=seeded(0))


def test_every_index_comes_once_in_batches_of_the_size_asked_for():
    batches = length_buckets(LENGTHS.tolist(), 32, seeded(1))
    assert sorted(index for batch in batches for index in batch) == list(range(5000))
    assert sorted(len(batch) for batch in batches) == [5000 % 32] + [32] * (5000 // 32)


def test_padding_is_small():
    batches = length_buckets(LENGTHS, 32, seeded(1))
    padded = sum(int(LENGTHS[batch].max()) * len(batch) for batch in batches)
    assert padded < 1.03 * int(LENGTHS.sum())


def test_batches_are_shuffled_and_follow_the_seed():
    one, same, other = (length_buckets(LENGTHS, 32, seeded(seed)) for seed in (1, 1, 2))
    assert one == same != other
    firsts = [int(LENGTHS[batch[0]]) for batch in one]
    assert firsts != sorted(firsts)


def test_no_texts_make_no_batches():
    assert length_buckets([], 8, seeded(0)) == []


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="batch_size is 0; give 1 or more"):
        length_buckets([1, 2], 0, seeded(0))
