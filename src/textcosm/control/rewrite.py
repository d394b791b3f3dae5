"""How far a text is noised before it is denoised again: from 0, itself, to 1, any text."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from textcosm.errors import ConfigError

Accept = Callable[[list[str]], Sequence[bool]]
"""Whether each of these texts will do."""

EARLIEST = 0.15
"""Below this time the network's guess decodes worse than the noisy latents that it reads (docs/log.md)."""


def time_of(strength: float) -> float:
    """The diffusion time to which a rewriting of this strength noises a text: the same number.

    On stories the share of tokens that survive falls evenly over it (docs/control.md). Raises ConfigError outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength is {strength}; give 0 (as it is) to 1 (forget it), such as 0.3")
    return float(strength)


def rising(strength: float | Sequence[float], accept: Accept | None) -> list[float]:
    """The strengths to try in turn; ConfigError where several do not rise, or where nothing chooses among them."""
    strengths = [float(strength)] if isinstance(strength, (int, float)) else [float(one) for one in strength]
    said = " ".join(f"{one:g}" for one in strengths)
    if not strengths or any(a >= b for a, b in pairwise(strengths)):
        raise ConfigError(f"strengths {said or '(none)'} are tried in turn: give one or more, each above the one before")
    if (len(strengths) > 1) != (accept is not None):
        if accept is None:
            raise ConfigError(f"strengths {said} are several and nothing says which will do: give one, or what accepts a text")
        raise ConfigError(f"strength {said} is one, and nothing is left to choose: give several, or leave out what accepts")
    return strengths
