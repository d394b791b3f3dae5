"""How far a text is noised before it is denoised again: from 0, itself, to 1, any text."""

from textcosm.errors import ConfigError

EARLIEST = 0.15
"""Below this time the network's guess decodes worse than the noisy latents that it reads (docs/log.md)."""


def time_of(strength: float) -> float:
    """The diffusion time to which a rewriting of this strength noises a text: the same number.

    On stories the share of tokens that survive falls evenly over it (docs/control.md). Raises ConfigError outside [0, 1].
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength is {strength}; give 0 (as it is) to 1 (forget it), such as 0.3")
    return float(strength)
