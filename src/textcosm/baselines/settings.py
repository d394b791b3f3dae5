"""What a rival is and how it is sampled: its kind, its sizes, and the settings of its sampler."""

from dataclasses import dataclass
from typing import Literal, get_args

from textcosm.errors import ConfigError

Kind = Literal["autoregressive", "masked"]


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

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "ff_width"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; give 1 or more")
        if self.width % (2 * self.heads):
            raise ConfigError(
                f"width is {self.width}, no multiple of 2 x heads = {2 * self.heads}; change one of them"
            )
        if self.max_length < 4:
            raise ConfigError(f"max_length is {self.max_length}; give 4 tokens or more")


@dataclass(frozen=True)
class RivalSampler:
    """How to sample; nucleus sampling (arXiv 1904.09751) for both kinds, so that neither is judged by its tail."""

    steps: int = 80
    """Times that the masked rival visits; the autoregressive one takes one pass a token whatever this says."""
    top_p: float = 0.9
    """Only the likeliest tokens that have this mass together are drawn from; 1 draws from all."""
    temperature: float = 1.0
    """Divides the logits."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}; give 1 or more")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; give a mass above 0, up to 1")
        if not self.temperature > 0:
            raise ConfigError(f"temperature is {self.temperature}; give a number above 0")


def check_kind(kind: str) -> None:
    """Raises ConfigError naming the kinds there are."""
    if kind not in get_args(Kind):
        raise ConfigError(f"there is no rival {kind!r}; choose one of {', '.join(get_args(Kind))}")
