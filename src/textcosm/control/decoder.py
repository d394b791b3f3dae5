"""What a guide asks the decoder: how likely tokens are at their places, differentiable in the latents."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from textcosm.latent.autoencoder import Autoencoder, Words
from textcosm.latent.normaliser import Normaliser
from textcosm.shapes import Activations, Latents, Logits, Tokens
from textcosm.text.tokenizer import Tokenizer

NEGATIVES = 1000
"""Random tokens that stand for the whole vocabulary where a guide need not know exactly how likely a token is."""


@dataclass(frozen=True)
class Decoder:
    """The way from normalised latents to tokens as a guide needs it: differentiable, and cheap where it may be rough.

    The whole vocabulary at every position costs several passes of the denoiser.
    """

    autoencoder: Autoencoder
    normaliser: Normaliser
    tokenizer: Tokenizer
    words: Words | None = None
    """What stands for the whole vocabulary; None: all of it."""

    def including(self, tokens: Int[Tensor, "..."]) -> "Decoder":
        """The same with these tokens among its words."""
        if self.words is None:
            return self
        joined = torch.cat((self.words.tokens, tokens.flatten().to(self.words.tokens.device))).unique()
        return replace(self, words=self.autoencoder.words(joined))

    def hidden(self, latents: Latents) -> Activations:
        """The decompressor's estimates at all positions."""
        return self.autoencoder.decompress(self.normaliser.denormalise(latents))

    def score(self, hidden: Activations, tokens: Int[Tensor, "..."]) -> Float[Tensor, "batch length"]:
        """The score of ``tokens``, one for all positions or one for each ``(batch, length)``."""
        return (hidden * self.autoencoder.token_head.weight[tokens]).sum(-1)

    def rest(self, hidden: Activations) -> Float[Tensor, "batch length"]:
        """A rough log-sum of the scores of the whole vocabulary: NEGATIVES random tokens, always the same, stand for it."""
        scores = hidden @ self.autoencoder.token_head.weight[self._negatives].T
        return scores.logsumexp(-1) + log(self.autoencoder.token_head.out_features / len(self._negatives))

    def whole(self, hidden: Activations) -> Float[Tensor, "batch length"]:
        """The exact log-sum of the scores of the vocabulary, or of the words that stand for it."""
        if self.words is not None:
            return F.linear(hidden, self.words.head).logsumexp(-1)
        return self.autoencoder.token_logits(hidden).logsumexp(-1)

    @cached_property
    def _negatives(self) -> Int[Tensor, " negatives"]:
        weight = self.autoencoder.token_head.weight
        drawn = torch.randperm(len(weight), generator=torch.Generator().manual_seed(0))
        return drawn[:NEGATIVES].to(weight.device)

    def worded(self, logits: Logits, tokens: Tokens, where: Bool[Tensor, "batch length"]) -> Tokens:
        """``tokens``, but the likeliest word ``where`` they are no words but frames: a start, an end, padding, a mask."""
        special = self.tokenizer.special
        frames = torch.tensor([special.start, special.end, special.pad, special.mask], device=tokens.device)
        words = logits.index_fill(-1, frames, -torch.inf).argmax(-1)
        return torch.where(torch.isin(tokens, frames) & where, words, tokens)


@runtime_checkable
class Ruling(Protocol):
    """A guide that also has a say in which tokens are written."""

    def select(self, rows: slice) -> "Ruling":
        """Of these texts alone."""
        ...

    def choose(self, logits: Logits, tokens: Tokens) -> Tokens:
        """``tokens``, or others that the decoder's ``logits`` allow."""
        ...

    def held(self, tokens: Tokens) -> Bool[Tensor, "batch length"]:
        """Where the token that was chosen must stay, whatever stands beside it."""
        ...
