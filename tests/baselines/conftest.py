"""What the tests of the rivals share: a vocabulary over the tiny backbone, small networks, whole rivals."""

import pytest
import torch

from textcosm.baselines.rival import Rival, count_forms, new_network
from textcosm.baselines.settings import RivalConfig, RivalSampler
from textcosm.baselines.tokens import Vocabulary
from textcosm.text.tiny import TinyBackbone

TEXTS = [
    "The dog ran home. He was very happy!",
    "Anna took the bus to school. Then she lost her book.",
    "A cat sat in the garden.",
    "Tom asked Anna to go to the beach, but it began to rain.",
]
SIZES = RivalConfig(width=16, depth=2, heads=2, ff_width=24, max_length=24, encoder_depth=1, source_length=40)


@pytest.fixture(scope="session")
def backbone():
    return TinyBackbone()


@pytest.fixture(scope="session")
def batch(backbone):
    return backbone.tokenize(TEXTS, SIZES.max_length)


@pytest.fixture(scope="session")
def vocabulary(backbone, batch):
    return Vocabulary.of(batch.tokens[batch.mask], backbone.tokenizer.special)


@pytest.fixture
def network(vocabulary):
    """``network(kind)``: untrained, with weights large enough that texts differ."""

    def make(kind):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = new_network(kind, SIZES, vocabulary)
            for parameter in made.parameters():
                if parameter.ndim == 2:
                    torch.nn.init.normal_(parameter, std=0.3)
        return made.eval()

    return make


@pytest.fixture
def rival(network, backbone, batch, vocabulary):
    """``rival(kind)``: one that can write."""

    def make(kind):
        tokens = vocabulary.shrink(batch.tokens[batch.mask])
        head = count_forms(vocabulary, tokens, tokens.roll(1), batch.forms[batch.mask])
        return Rival(network(kind), head, backbone.tokenizer, RivalSampler(steps=8), {"note": "untrained"})

    return make
