"""What a rival is and how it is sampled: its kind, its sizes, and the settings of its sampler."""

from dataclasses import dataclass
from typing import Literal, get_args

from textcosm.errors import ConfigError

Kind = Literal["autoregressive", "masked", "encoder-decoder"]
OF_PAIRS = ("encoder_depth", "source_length", "context_words", "dropout")
"""The fields of :class:`RivalConfig` that only the encoder-decoder has."""


@dataclass(frozen=True)
class RivalConfig:
    """Sizes of a rival's transformer; the defaults are those of the stories-16 denoiser's blocks."""

    width: int = 384
    """Features of the residual stream."""
    depth: int = 6
    """Blocks."""
    heads: int = 6
    """Attention heads of a block."""
    ff_width: int = 1024
    """Inner features of the SwiGLU."""
    max_length: int = 80
    """Tokens of a text at the most, start and end included."""
    encoder_depth: int = 4
    """Encoder-decoder only: blocks that read the source."""
    source_length: int = 512
    """Encoder-decoder only: tokens of a source at the most, start and end included."""
    context_words: int | None = None
    """Encoder-decoder only: of a source "ANSWER | CONTEXT", words of the context around the answer; None reads all."""
    dropout: float = 0.1
    """Encoder-decoder only, as its authors train it (arXiv 2001.08210)."""

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "ff_width", "encoder_depth"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.width % (2 * self.heads):
            raise ConfigError(
                f"width is {self.width}, no multiple of 2 x heads = {2 * self.heads}; change one of them"
            )
        for name in ("max_length", "source_length"):
            if getattr(self, name) < 4:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 4 tokens or more")
        if self.context_words is not None and self.context_words < 1:
            raise ConfigError(f"context_words is {self.context_words}; keep 1 word or more, or None to keep all")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; give a share from 0 to below 1")


@dataclass(frozen=True)
class RivalSampler:
    """How to sample; where texts are drawn it is from the nucleus (arXiv 1904.09751), so that no tail is judged."""

    steps: int = 80
    """Times that the masked rival visits; the autoregressive one takes one pass a token whatever this says."""
    top_p: float = 0.9
    """Only the likeliest tokens that have this mass together are drawn from; 1 draws from all."""
    temperature: float = 1.0
    """Divides the logits."""
    beams: int = 0
    """Encoder-decoder only: 0 draws from the nucleus, 1 takes the likeliest token, more search with that many beams."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}; give 1 or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; give a mass above 0, up to 1")
        if self.beams < 0:
            raise ConfigError(f"beams is {self.beams}; give 0 to draw, 1 for the likeliest token, or more to search")
        if not self.temperature > 0:
            raise ConfigError(f"temperature is {self.temperature}; give a number above 0")


def check_kind(kind: str) -> None:
    """Raises ConfigError naming the kinds there are."""
    if kind not in get_args(Kind):
        raise ConfigError(f"there is no rival {kind!r}; choose one of {', '.join(get_args(Kind))}")
