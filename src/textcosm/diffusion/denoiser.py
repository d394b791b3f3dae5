"""The network that predicts clean latents from noisy ones: LLaMA-style blocks with mirrored skips."""

from dataclasses import dataclass, replace
from math import log

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from textcosm.diffusion.linear import LinearGuess
from textcosm.diffusion.schedule import TanSchedule
from textcosm.errors import ConfigError
from textcosm.nn.attention import attend
from textcosm.nn.precision import Precision, lower_precision
from textcosm.shapes import Activations, Latents, Mask, Times

EPS = 1e-6
THETA = 1e4
MAX_PERIOD = 10.0

Stream = Float[Tensor, "batch places width"]
"""The residual stream: one vector per slot, or per source token."""
Rotation = tuple[Float[Tensor, "places 1 half"], Float[Tensor, "places 1 half"]]
"""Cosines and sines of the rotary angles, shared by the blocks of one pass."""


@dataclass(frozen=True)
class DenoiserConfig:
    """Sizes of the denoiser; the defaults are the published 129.8M parameters.

    source_depth: blocks of the source encoder; 0 makes a model without source text (and without cross-attention).
    slots: learned position for each of this many latents; 0 for none, as published (rotary positions are relative).
    projections: a Linear in and out even where the widths agree. Without, as published, x_0 is a normed vector, which
        can hardly shrink to the mean when all is noise: on toy latents (8 x 64, 600 steps) the loss was .81, with .73.
    source_latents: read a source's own latents too, slot beside slot: for answers that are near to their sources, such as
        detoxification, in which the network then learns what to change and not how to copy. Not in the paper.
    linear_rank: directions of the closed-form linear guess (linear.py) that the network starts from, reads and corrects;
        0 for none, as published.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    ff_width: int = 3072
    source_depth: int = 0
    dropout: float = 0.0
    slots: int = 0
    projections: bool = False
    linear_rank: int = 0
    source_latents: bool = False

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "ff_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"denoiser {name} = {getattr(self, name)} is below 1; give a positive number")
        for name in ("source_depth", "slots", "linear_rank"):
            if getattr(self, name) < 0:
                raise ConfigError(f"denoiser {name} = {getattr(self, name)} is below 0; 0 leaves it out")
        if self.width % (2 * self.heads):
            raise ConfigError(
                f"denoiser width = {self.width} must be a multiple of 2 x heads = {2 * self.heads}; change one of them"
            )
        if self.source_latents and not self.source_depth:
            raise ConfigError("denoiser source_latents needs a source encoder: give source_depth 1 or more, or leave it out")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"denoiser dropout = {self.dropout} is outside [0, 1); the paper uses 0")


@dataclass(frozen=True)
class SourceConfig:
    """max_length: tokens of a source that are read, start and end included; the rest is cut.

    context_words: of a source "ANSWER | CONTEXT", words of the context around the answer that are read; None reads all.
    """

    max_length: int = 512
    context_words: int | None = None

    def __post_init__(self) -> None:
        if self.context_words is not None and self.context_words < 1:
            raise ConfigError(f"context_words is {self.context_words}; keep 1 word or more, or None to keep all")
        if self.max_length < 3:
            raise ConfigError(f"source max_length = {self.max_length} leaves no room for a word; give 3 or more")

    @property
    def limit(self) -> str:
        """What is read of a source, in words."""
        around = f", with {self.context_words} words around the answer" if self.context_words else ""
        return f"at most {self.max_length} tokens{around}"


@dataclass(frozen=True)
class Memory:
    """A source text as the denoiser reads it: keys and values for each block's cross-attention, made once per text.

    Position 0 is the learned null, which every text sees: a text without a source sees nothing else.
    """

    keys: tuple[Float[Tensor, "batch source width"], ...]
    values: tuple[Float[Tensor, "batch source width"], ...]
    mask: Mask
    latents: Latents | None = None
    """The source's own normalised latents, for networks that read them; zeros for a text without a source."""

    def __getitem__(self, rows: slice | Tensor) -> "Memory":
        """The memory of some of the texts."""
        keys, values = (tuple(x[rows] for x in side) for side in (self.keys, self.values))
        return Memory(keys, values, self.mask[rows], None if self.latents is None else self.latents[rows])

    def without(self, rows: Bool[Tensor, " batch"]) -> "Memory":
        """The same, but the texts where ``rows`` is True see the null alone, as if they had no source."""
        null = torch.arange(self.mask.shape[1], device=self.mask.device) == 0
        latents = None if self.latents is None else self.latents.masked_fill(rows[:, None, None], 0)
        return Memory(self.keys, self.values, self.mask & (null | ~rows[:, None]), latents)


class Denoiser(nn.Module):
    """``(noisy, time, self_condition, memory) -> x_0``, all normalised latents ``(batch, slots, latent_width)``.

    At the start the blocks add nothing (their last matrices, and those of time and self-condition, are zero): the
    stream is the noisy latents, and no signal has to be unlearned. No self-condition is the same as one of zeros. With
    a linear guess, the network reads it beside the noisy latents, and its output is added to it.
    """

    def __init__(
        self, config: DenoiserConfig, latent_width: int, source_width: int = 0, linear: LinearGuess | None = None
    ) -> None:
        """Raises ConfigError where ``source_depth`` asks for a source but ``source_width`` is 0; see new_denoiser."""
        super().__init__()
        if config.source_depth and source_width < 1:
            raise ConfigError(
                f"denoiser source_depth = {config.source_depth} needs source_width above 0: the backbone's width"
            )
        self.config = config
        width = config.width
        projected = config.projections or latent_width != width
        self.enter = nn.Linear(latent_width, width) if projected else nn.Identity()
        # The mean of normalised latents is 0: a fair first guess.
        self.leave = _silent(nn.Linear(width, latent_width)) if projected else nn.Identity()
        self.slots = nn.Parameter(0.02 * torch.randn(config.slots, width)) if config.slots else None
        self.time = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width), nn.SiLU())
        self.blocks = nn.ModuleList(DenoiserBlock(config, latent_width) for _ in range(config.depth))
        self.norm = nn.RMSNorm(width, eps=EPS)
        self.source = SourceEncoder(config, source_width) if config.source_depth else None
        self.from_source = _silent(nn.Linear(latent_width, width, bias=False)) if config.source_latents else None
        self.linear = linear
        self.from_linear = _silent(nn.Linear(latent_width, width, bias=False)) if linear is not None else None

    def forward(
        self, noisy: Latents, time: Times, self_condition: Latents | None = None, memory: Memory | None = None
    ) -> Latents:
        """Estimate x_0; raises ConfigError for a memory that this network cannot read or a wrong number of slots.

        Without ``memory``, a network that reads sources writes as if there were none.
        """
        self._check(noisy.shape[1], memory)
        if memory is None and self.source is not None:
            memory = self.no_source(noisy.shape[0])
        x = self.enter(noisy).to(noisy.dtype)  # under autocast, too, the stream stays as precise as its input
        if self.slots is not None:
            x = x + self.slots
        beside = None if memory is None else memory.latents
        if self.from_source is not None and beside is not None:
            x = x + self.from_source(beside)
        guess = None if self.linear is None else self.linear(noisy, time, beside)
        if guess is not None and self.from_linear is not None:
            x = x + self.from_linear(guess)
        signal = self.time(time_embedding(time, self.config.width).to(x.dtype))
        rotation = rotary(x.shape[1], self.config.width // self.config.heads, x)
        mirrored = self.config.depth // 2
        inputs: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if i < mirrored:
                inputs.append(x)
            elif i >= self.config.depth - mirrored:
                x = x + inputs.pop()
            keys_values = None if memory is None else (memory.keys[i], memory.values[i], memory.mask)
            x = block(x, rotation, signal, self_condition, keys_values)
        clean = self.leave(self.norm(x))
        return clean if guess is None else clean + guess

    def encode_source(self, activations: Activations, mask: Mask, latents: Latents | None = None) -> Memory:
        """Read source texts, given as the backbone's raw activations, and as normalised latents where the network reads
        those (``source_latents``). Raises ConfigError without a source encoder, and where latents are missing."""
        memory = self._source_encoder()(activations, mask)
        if self.from_source is None:
            return memory
        if latents is None:
            raise ConfigError("this denoiser reads the latents of a source beside its activations: give them too")
        return replace(memory, latents=latents)

    def no_source(self, batch: int) -> Memory:
        """The memory of ``batch`` texts that have no source; ConfigError without a source encoder."""
        return self._source_encoder().nothing(batch)

    def lower_precision(self, precision: Precision) -> str | None:
        """Write with cheaper matrices from now on, without gradients; a note where this machine cannot.

        In int8 the feed-forward's way out, whose inputs have outliers, and what stands outside the blocks keep float16:
        with them x_0 is off by 2 % at most on a walk of stories-16, without by 18 % to 66 %.
        """
        return lower_precision(self, precision, lambda name: "blocks." not in name or "feed_forward.leave" in name)

    def _source_encoder(self) -> "SourceEncoder":
        if self.source is None:
            raise ConfigError("denoiser source_depth = 0: it takes no source; train one with source_depth above 0")
        return self.source

    def _check(self, slots: int, memory: Memory | None) -> None:
        if self.config.slots and slots != self.config.slots:
            raise ConfigError(f"{slots} latents given to a denoiser of {self.config.slots} slots; give that many")
        if memory is not None and self.source is None:
            raise ConfigError("a memory given to a denoiser of source_depth = 0; train one with source_depth above 0")


def new_denoiser(
    config: DenoiserConfig, schedule: TanSchedule, shape: tuple[int, int], source_width: int = 0
) -> Denoiser:
    """A denoiser for latents of ``shape`` (slots, latent_width), with a linear guess (not yet fitted) where asked for."""
    linear = LinearGuess(config.linear_rank, *shape, schedule, config.source_latents) if config.linear_rank else None
    if linear is not None and not (config.projections or shape[1] != config.width):
        raise ConfigError("denoiser linear_rank corrects a guess, and a normed x_0 cannot be small: set projections = true")
    return Denoiser(config, shape[1], source_width, linear)


class DenoiserBlock(nn.Module):
    """A block told the time and the last x_0: each is projected by the block's own Linear and added to its input."""

    def __init__(self, config: DenoiserConfig, latent_width: int) -> None:
        super().__init__()
        self.from_time = _silent(nn.Linear(config.width, config.width))
        self.from_clean = _silent(nn.Linear(latent_width, config.width, bias=False))
        self.body = Block(config, crosses=config.source_depth > 0)

    def forward(
        self,
        x: Stream,
        rotation: Rotation,
        signal: Float[Tensor, "batch width"],
        self_condition: Latents | None,
        memory: tuple[Tensor, Tensor, Tensor] | None,
    ) -> Stream:
        x = x + self.from_time(signal)[:, None]
        if self_condition is not None:
            x = x + self.from_clean(self_condition)
        return self.body(x, rotation, None, memory)


class SourceEncoder(nn.Module):
    """Blocks of the denoiser's kind over the source's activations, and what each block of the denoiser reads there.

    A learned null is read beside the source, by which a text may have none: classifier-free guidance needs both
    (arXiv 2207.12598). It joins after the blocks, so that it is the same beside any source.
    """

    activation_mean: Tensor
    activation_std: Tensor

    def __init__(self, config: DenoiserConfig, source_width: int) -> None:
        super().__init__()
        self.head_width = config.width // config.heads
        self.register_buffer("activation_mean", torch.zeros(source_width))
        self.register_buffer("activation_std", torch.ones(source_width))
        self.enter = nn.Linear(source_width, config.width) if source_width != config.width else nn.Identity()
        self.blocks = nn.ModuleList(Block(config, crosses=False) for _ in range(config.source_depth))
        self.norm = nn.RMSNorm(config.width, eps=EPS)
        self.null = nn.Parameter(torch.randn(config.width))
        self.reads = nn.ModuleList(nn.Linear(config.width, 2 * config.width, bias=False) for _ in range(config.depth))

    def set_statistics(self, mean: Float[Tensor, " width"], std: Float[Tensor, " width"]) -> None:
        """What activations are standardised with: the autoencoder's statistics, as its compressor reads them."""
        self.activation_mean.copy_(mean)
        self.activation_std.copy_(std)

    def forward(self, activations: Activations, mask: Mask) -> Memory:
        x = self.enter((activations - self.activation_mean) / self.activation_std).to(activations.dtype)
        rotation = rotary(x.shape[1], self.head_width, x)
        for block in self.blocks:
            x = block(x, rotation, mask, None)
        return self._memory(self.norm(x), mask)

    def nothing(self, batch: int) -> Memory:
        """The null alone, for ``batch`` texts."""
        nothing = self.null.new_empty(batch, 0, len(self.null))
        return self._memory(nothing, torch.empty(batch, 0, dtype=torch.bool, device=nothing.device))

    def _memory(self, x: Stream, mask: Mask) -> Memory:
        x = torch.cat((self.null.to(x.dtype).expand(len(x), 1, -1), x), dim=1)
        pairs = [read(x).chunk(2, dim=-1) for read in self.reads]
        mask = F.pad(mask, (1, 0), value=True)
        return Memory(tuple(keys for keys, _ in pairs), tuple(values for _, values in pairs), mask)


class Block(nn.Module):
    """Pre-norm self-attention, cross-attention where asked for, and SwiGLU, each added to the stream; no biases."""

    def __init__(self, config: DenoiserConfig, crosses: bool) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, eps=EPS)
        self.attention = SelfAttention(config.width, config.heads)
        self.cross_norm = nn.RMSNorm(config.width, eps=EPS) if crosses else None
        self.cross = CrossAttention(config.width, config.heads) if crosses else None
        self.feed_forward_norm = nn.RMSNorm(config.width, eps=EPS)
        self.feed_forward = SwiGLU(config.width, config.ff_width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Stream,
        rotation: Rotation,
        mask: Bool[Tensor, "batch places"] | None,
        memory: tuple[Tensor, Tensor, Tensor] | None,
    ) -> Stream:
        x = x + self.dropout(self.attention(self.attention_norm(x), rotation, mask))
        if memory is not None and self.cross is not None and self.cross_norm is not None:
            x = x + self.dropout(self.cross(self.cross_norm(x), *memory))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class SelfAttention(nn.Module):
    """Bidirectional attention with rotary positions; queries, keys and values from one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter = nn.Linear(width, 3 * width, bias=False)
        self.leave = _silent(nn.Linear(width, width, bias=False))

    def forward(self, x: Stream, rotation: Rotation, mask: Bool[Tensor, "batch places"] | None) -> Stream:
        width = x.shape[-1]
        queries_keys, values = self.enter(x).split((2 * width, width), dim=-1)
        queries, keys = rotate(queries_keys, 2 * self.heads, rotation).chunk(2, dim=-1)
        return self.leave(attend(queries, keys, values, self.heads, mask))


class CrossAttention(nn.Module):
    """Slots look at the source; its keys and values do not change while sampling, so they are made once."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter = nn.Linear(width, width, bias=False)
        self.leave = _silent(nn.Linear(width, width, bias=False))

    def forward(
        self,
        x: Stream,
        keys: Float[Tensor, "batch source width"],
        values: Float[Tensor, "batch source width"],
        mask: Bool[Tensor, "batch source"],
    ) -> Stream:
        return self.leave(attend(self.enter(x), keys, values, self.heads, mask))


class SwiGLU(nn.Module):
    """Feed-forward with a SiLU gate; gate and value from one matrix."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.enter = nn.Linear(width, 2 * inner, bias=False)
        self.leave = _silent(nn.Linear(inner, width, bias=False))

    def forward(self, x: Stream) -> Stream:
        gate, value = self.enter(x).chunk(2, dim=-1)
        return self.leave(F.silu(gate) * value)


def time_embedding(time: Times, width: int) -> Float[Tensor, "batch width"]:
    """Cosines and sines of ``time`` with periods from 2 pi to MAX_PERIOD times that."""
    half = torch.arange(width // 2, device=time.device, dtype=torch.float32) / (width // 2)
    angles = time.float()[:, None] * torch.exp(-log(MAX_PERIOD) * half)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def rotary(places: int, head_width: int, like: Tensor) -> Rotation:
    """The rotary angles' cosines and sines for ``places`` positions, theta 1e4, on the device of ``like``."""
    rates = THETA ** -(torch.arange(0, head_width, 2, device=like.device, dtype=torch.float32) / head_width)
    angles = torch.arange(places, device=like.device, dtype=torch.float32)[:, None, None] * rates
    return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "batch places inner"], heads: int, rotation: Rotation
) -> Float[Tensor, "batch places inner"]:
    """Turn each head's pairs of features by its position's angles."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    left, right = x.unflatten(-1, (heads, -1)).chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).flatten(-2)


def _silent(linear: nn.Linear) -> nn.Linear:
    """Start at zero, so that the stream first passes unchanged."""
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return linear
