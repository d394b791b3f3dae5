"""The text room: text to tokens to activations, and back."""

from textcosm.shapes import NUM_FORMS
from textcosm.text.backbone import Backbone, BackboneConfig, open_backbone
from textcosm.text.batching import length_buckets
from textcosm.text.surface import Surface
from textcosm.text.tokenizer import SpecialTokens, TokenBatch, Tokenizer

__all__ = [
    "NUM_FORMS",
    "Backbone",
    "BackboneConfig",
    "SpecialTokens",
    "Surface",
    "TokenBatch",
    "Tokenizer",
    "length_buckets",
    "open_backbone",
]
