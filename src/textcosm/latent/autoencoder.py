"""The autoencoder: L activations -> N latents -> L estimated activations -> tokens (arXiv 2506.21170)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from textcosm.errors import ConfigError
from textcosm.latent.forms import FormHead
from textcosm.latent.perceiver import FeedForward, Perceiver
from textcosm.shapes import Activations, Latents, Logits, Mask, Tokens

MAX_LENGTH = 512
SCORED_AT_ONCE = 256
"""Positions of all texts together: fewer would make the product of matrices slow."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder; the defaults are the published ones."""

    num_latents: int = 16
    """N, the number of latent vectors of a text."""
    latent_width: int = 0
    """Width of a latent vector; 0 means the Perceiver's own width."""
    max_length: int = 128
    """L, the number of token positions, start and end tokens included."""
    width: int = 0
    """Width of the Perceiver's residual streams; 0 means the backbone's."""
    compressor_depth: int = 12
    """Layers; 0 does not compress: the latents are the standardised activations, which needs N = L."""
    decompressor_depth: int = 12
    """Layers; 0, which needs a compressor of 0 layers too, leaves the token head alone to read the latents."""
    heads: int = 12
    head_width: int = 64
    ff_mult: int = 4
    """Feed-forward width over the residual width."""
    dropout: float = 0.1
    init: Literal["published", "local"] = "published"
    """How training starts: "published" as in the paper; "local" gives position codes the size of the activations
    and starts as a local linear code read off the data (latent/initialise.py), which learns many times faster."""

    def __post_init__(self) -> None:
        for name in ("num_latents", "heads", "head_width", "ff_mult"):
            if getattr(self, name) < 1:
                raise ConfigError(f"autoencoder.{name} is {getattr(self, name)}; give 1 or more")
        for name in ("latent_width", "width"):
            if getattr(self, name) < 0:
                raise ConfigError(f"autoencoder.{name} is {getattr(self, name)}; give 0 (automatic) or more")
        for name in ("compressor_depth", "decompressor_depth"):
            if getattr(self, name) < 0:
                raise ConfigError(f"autoencoder.{name} is {getattr(self, name)}; give 0 (none) or more")
        if not 4 <= self.max_length <= MAX_LENGTH:
            raise ConfigError(f"autoencoder.max_length is {self.max_length}; give 4 to {MAX_LENGTH} tokens")
        if self.num_latents > self.max_length:
            raise ConfigError(
                f"autoencoder.num_latents is {self.num_latents}, more than max_length {self.max_length}; lower it"
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"autoencoder.dropout is {self.dropout}; give 0 or more and less than 1")
        if self.compressor_depth == 0 and self.num_latents != self.max_length:
            raise ConfigError(
                "autoencoder.compressor_depth is 0, which keeps every position: num_latents must be max_length "
                f"{self.max_length}, not {self.num_latents}; set it so, or give compressor_depth 1 or more"
            )
        if self.decompressor_depth == 0 and self.compressor_depth:
            raise ConfigError(
                "autoencoder.decompressor_depth is 0, which reads uncompressed latents only, but compressor_depth is "
                f"{self.compressor_depth}; give decompressor_depth 1 or more, or compressor_depth 0"
            )

    @property
    def compresses(self) -> bool:
        """False where the latents are the activations themselves."""
        return self.compressor_depth > 0


@dataclass(frozen=True)
class Words:
    """A part of the vocabulary, and the rows of the token head that score it: cheaper than the whole."""

    tokens: Int[Tensor, " words"]
    head: Float[Tensor, "words width"]

    def likeliest(
        self, hidden: Activations, end: int, count: int = 1
    ) -> tuple[Float[Tensor, "batch length count"], Int[Tensor, "batch length count"]]:
        """The scores of the ``count`` likeliest of these tokens at every position, and the tokens, the likeliest first.

        As far as the first ``end`` of a text; what follows it is any. Positions are scored some at a time, in the texts
        that have not ended before.
        """
        some = max(1, SCORED_AT_ONCE // max(1, len(hidden)))
        shape = (*hidden.shape[:2], min(count, len(self.tokens)))
        scores, tokens = torch.zeros(shape, device=hidden.device), torch.full(shape, end, device=hidden.device)
        going = torch.arange(len(hidden), device=hidden.device)
        for start in range(0, hidden.shape[1], some):
            at = slice(start, start + some)
            found = F.linear(hidden[going, at], self.head)
            best = found.max(-1, keepdim=True) if count == 1 else found.topk(shape[-1], -1)
            scores[going, at], tokens[going, at] = best.values, self.tokens[best.indices]
            going = going[(self.tokens[best.indices[..., 0]] != end).all(1)]
            if not len(going):
                break
        return scores, tokens


class Autoencoder(nn.Module):
    """Compressor, decompressor and token head over a frozen backbone of width ``backbone_width``.

    The statistics of the activations and the frozen [MASK] embedding are buffers: they travel with the weights.
    """

    activation_mean: Tensor
    activation_std: Tensor
    mask_embedding: Tensor
    places: Tensor

    def __init__(self, config: AutoencoderConfig, backbone_width: int, vocab_size: int):
        super().__init__()
        self.config = config
        self.width = config.width or backbone_width
        self.latent_width = config.latent_width or (self.width if config.compresses else backbone_width)
        if not config.compresses and self.latent_width != backbone_width:
            raise ConfigError(
                f"autoencoder.latent_width is {self.latent_width}, but without a compressor latents are as wide as the "
                f"backbone, {backbone_width}; give 0, or compressor_depth 1 or more"
            )
        self.register_buffer("activation_mean", torch.zeros(backbone_width))
        self.register_buffer("activation_std", torch.ones(backbone_width))
        self.register_buffer("mask_embedding", torch.zeros(backbone_width))
        self.register_buffer("places", slot_places(config.num_latents, config.max_length), persistent=False)
        if config.compresses:
            self._make_compressor(backbone_width)
        if config.decompressor_depth:
            self._make_decompressor(backbone_width)
        self.token_head = nn.Linear(backbone_width, vocab_size, bias=False)
        self.form_head = FormHead(backbone_width, vocab_size)

    def _make_compressor(self, backbone_width: int) -> None:
        config, width = self.config, self.width
        self.widen = _linear_where_needed(backbone_width, width)
        self.token_positions = nn.Parameter(torch.randn(config.max_length, width) * width**-0.5)
        self.slots = nn.Parameter(0.02 * torch.randn(config.num_latents, width))
        self.slots_norm = nn.RMSNorm(width)
        self.compressor = self._perceiver(config.compressor_depth)
        self.to_latents = _linear_where_needed(width, self.latent_width)
        self.latents_norm = nn.RMSNorm(self.latent_width)

    def _make_decompressor(self, backbone_width: int) -> None:
        config, width = self.config, self.width
        self.from_latents = _linear_where_needed(self.latent_width, width)
        self.query_positions = nn.Parameter(torch.randn(config.max_length, width) * width**-0.5)
        self.mask_projection = _linear_where_needed(backbone_width, width)
        self.mask_feed_forward = FeedForward(width, config.ff_mult * width, config.dropout)
        self.decompressor = self._perceiver(config.decompressor_depth)
        self.narrow = _linear_where_needed(width, backbone_width)

    def _perceiver(self, depth: int) -> Perceiver:
        config = self.config
        return Perceiver(
            depth, self.width, config.heads, config.head_width, config.ff_mult * self.width, config.dropout
        )

    def set_statistics(
        self, mean: Float[Tensor, " width"], std: Float[Tensor, " width"], mask_embedding: Float[Tensor, " width"]
    ) -> None:
        """Store the activations' statistics over real tokens and the backbone's frozen [MASK] embedding."""
        self.activation_mean.copy_(mean)
        self.activation_std.copy_(std)
        self.mask_embedding.copy_(mask_embedding)

    def standardise(self, activations: Activations) -> Activations:
        """``(h - mean) / std`` per feature: the compressor's input and the alignment loss's target."""
        return (activations - self.activation_mean) / self.activation_std

    def freeze_compressor(self) -> None:
        """Keep the latents of a text as they are whatever is trained from now on: only the way back may change."""
        if not self.config.compresses:
            return
        for part in (self.widen, self.slots_norm, self.compressor, self.to_latents, self.latents_norm):
            part.requires_grad_(False)
        self.token_positions.requires_grad_(False)
        self.slots.requires_grad_(False)

    def compress(self, activations: Activations, mask: Mask) -> Latents:
        """Standardised activations to raw (not yet normalised) latents; padding is not seen.

        Without a compressor they are the latents, at all L positions: zeros, their mean, where no token is.
        """
        length = activations.shape[1]
        if length > self.config.max_length:
            raise ConfigError(
                f"a text has {length} tokens, the autoencoder takes {self.config.max_length}; cut the text or train "
                "with a larger autoencoder.max_length"
            )
        if not self.config.compresses:
            return F.pad(activations * mask[..., None], (0, 0, 0, self.config.max_length - length))
        tokens = self.widen(activations) + self.token_positions[:length]
        slots = self.slots_norm(self.slots).expand(len(tokens), -1, -1)
        return self.latents_norm(self.to_latents(self.compressor(slots, tokens, mask)))

    def decompress(self, latents: Latents, length: int | None = None) -> Activations:
        """Raw latents to estimates of the standardised activations at positions ``0 .. length - 1``.

        ``length`` defaults to all L positions, as in the paper; positions attend to one another, so a shorter run is
        an approximation that training covers by drawing lengths.
        """
        if not self.config.decompressor_depth:
            return latents[:, :length]
        queries = self.mask_feed_forward(self.mask_projection(self.mask_embedding)) + self.query_positions[:length]
        context = self.from_latents(latents) + self.query_positions[self.places]
        return self.narrow(self.decompressor(queries.expand(len(latents), -1, -1), context))

    def token_logits(self, hidden: Activations) -> Logits:
        """Scores of every vocabulary token at every position."""
        return self.token_head(hidden)

    def learned_words(self, always: Sequence[int]) -> "Words | None":
        """The tokens that the training texts held, and these; None before they were counted."""
        counted = self.form_head.counted
        if not counted.any():
            return None
        counted[list(always)] = True
        return self.words(counted.nonzero().squeeze(1))

    def words(self, tokens: Int[Tensor, " words"]) -> "Words":
        """These tokens as a vocabulary of their own."""
        return Words(tokens, self.token_head.weight.detach()[tokens])

    def form_logits(self, hidden: Activations, tokens: Tokens) -> Float[Tensor, "batch length forms"]:
        """Scores of the written forms (case, space before) of the tokens chosen at every position."""
        return self.form_head.scores(hidden, tokens)


def slot_places(slots: int, length: int) -> Int[Tensor, " slots"]:
    """The position at the middle of each slot's share of the text, whose entry of the position table it gets."""
    return ((torch.arange(slots) + 0.5) * length / slots).long()


def _linear_where_needed(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)
