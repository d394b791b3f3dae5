"""What may move the network's guess of the clean latents while sampling: classifier-free guidance, and any guide."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from textcosm.diffusion.denoiser import Memory
from textcosm.errors import ConfigError
from textcosm.shapes import Latents, Times

Network = Callable[[Latents, Times, Latents | None], Latents]
"""``(noisy, times, self_condition) -> clean``: a denoiser, told already which sources it answers."""


@runtime_checkable
class Guide(Protocol):
    """Moves every guess of x_0 that the solver and the self-condition see (a seam: write your own outside)."""

    def __call__(self, clean: Latents, time: float) -> Latents:
        """The guess ``clean`` of normalised latents at diffusion ``time`` (1 is noise, 0 is clean), moved."""
        ...

    def select(self, rows: slice) -> "Guide":
        """The guide of these texts alone; the others are sampled in other batches."""
        ...


def told_of_sources(denoise: Callable[..., Latents], memory: Memory | None, guidance: float = 1.0) -> Network:
    """The network with its sources, under classifier-free guidance (arXiv 2207.12598) where ``guidance`` is not 1.

    The guess is ``without + guidance (with - without)``, with and without the source in one batch of twice the texts;
    both see the same last guess. Guidance 1 is one plain pass. Raises ConfigError for guidance without a source.
    """
    if memory is None:
        if guidance != 1:
            raise ConfigError(
                f"guidance = {guidance:g} weighs the source, and there is none: give a source, or leave guidance at 1"
            )
        return denoise
    if guidance == 1:
        return lambda noisy, time, self_condition: denoise(noisy, time, self_condition, memory=memory)
    texts = len(memory.mask)
    both = memory[torch.arange(2 * texts) % texts].without(torch.arange(2 * texts, device=memory.mask.device) >= texts)

    def guided(noisy: Latents, time: Times, self_condition: Latents | None) -> Latents:
        last = None if self_condition is None else _twice(self_condition)
        clean = denoise(_twice(noisy), time.repeat(2), last, memory=both)
        told, untold = clean.chunk(2)
        return untold + guidance * (told - untold)

    return guided


def _twice(latents: Latents) -> Float[Tensor, "2*batch slots latent_width"]:
    return latents.repeat(2, 1, 1)
