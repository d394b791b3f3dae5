"""What tiny.py promises: a deterministic, contextual stand-in for a real encoder."""

import pytest
import torch

from textcosm.errors import BackboneError
from textcosm.text.backbone import Backbone
from textcosm.text.tiny import TinyBackbone

TEXTS = ["The dog ran home.", "A very happy teacher ate the last cake at the party."]


def test_it_is_a_backbone():
    backbone = TinyBackbone()
    assert isinstance(backbone, Backbone)
    assert backbone.vocab_size == backbone.tokenizer.vocab_size == len(backbone.embeddings())
    assert backbone.embeddings().shape[1] == backbone.width


def test_two_instances_are_the_same_encoder():
    one, two = TinyBackbone(), TinyBackbone()
    batch = one.tokenize(TEXTS, 64)
    assert torch.equal(one.encode(batch.tokens, batch.mask), two.encode(batch.tokens, batch.mask))
    assert one.fingerprint == two.fingerprint


def test_layers_differ_in_activations_and_fingerprints():
    backbones = [TinyBackbone(layer) for layer in range(3)]
    batch = backbones[0].tokenize(TEXTS, 64)
    states = [backbone.encode(batch.tokens, batch.mask) for backbone in backbones]
    assert torch.equal(states[0][batch.mask], backbones[0].embeddings()[batch.tokens[batch.mask]])
    assert not torch.allclose(states[1], states[2])
    assert len({backbone.fingerprint for backbone in backbones}) == 3
    assert TinyBackbone(-1).fingerprint == backbones[2].fingerprint


def test_activations_depend_on_context_but_not_on_padding():
    backbone = TinyBackbone()
    both, alone = backbone.tokenize(TEXTS, 64), backbone.tokenize(TEXTS[:1], 64)
    length = alone.tokens.shape[1]
    padded = backbone.encode(both.tokens, both.mask)[0, :length]
    assert torch.allclose(padded, backbone.encode(alone.tokens, alone.mask)[0], atol=1e-6)
    twice = backbone.tokenize(["the dog saw the"], 64)
    hidden = backbone.encode(twice.tokens, twice.mask)[0]
    assert not torch.allclose(hidden[1], hidden[4])


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_it_has_not_is_refused(layer):
    with pytest.raises(BackboneError, match=f"no layer {layer}; choose 0 to 2"):
        TinyBackbone(layer)
