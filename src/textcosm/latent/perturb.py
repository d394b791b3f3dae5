"""The three perturbations that make the latent space smooth (arXiv 2506.21170)."""

from dataclasses import dataclass

import torch

from textcosm.errors import ConfigError
from textcosm.shapes import Activations, Latents, Mask


@dataclass(frozen=True)
class PerturbationConfig:
    """Strengths; 0 (for ``activation_keep``, 1) switches a perturbation off."""

    token_drop: float = 0.3
    """Share of tokens hidden from the compressor, in one half of the batch."""
    activation_keep: float = 0.7
    """k in ``h <- k h + sqrt(1 - k^2) noise``, in the other half of the batch."""
    latent_drop: float = 0.4
    """Share of the latents' elements set to zero (no rescaling)."""

    def __post_init__(self) -> None:
        for name in ("token_drop", "latent_drop"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"perturbation.{name} is {getattr(self, name)}; give 0 or more and less than 1")
        if not 0 < self.activation_keep <= 1:
            raise ConfigError(f"perturbation.activation_keep is {self.activation_keep}; give more than 0, at most 1")


def perturb_activations(
    activations: Activations, mask: Mask, config: PerturbationConfig, generator: torch.Generator
) -> tuple[Activations, Mask]:
    """Drop tokens in a random half of the batch and blend noise into the other half.

    A dropped token leaves the attention keys (its mask turns False); no text loses all of its tokens.
    """
    batch = len(activations)
    drops = _random_half(batch, generator, activations.device)
    kept = torch.rand(mask.shape, generator=generator, device=mask.device) >= config.token_drop
    kept[:, 0] = True
    mask = mask & (kept | ~drops[:, None])
    if config.activation_keep < 1:
        noise = torch.randn(activations.shape, generator=generator, device=activations.device, dtype=activations.dtype)
        noisy = config.activation_keep * activations + (1 - config.activation_keep**2) ** 0.5 * noise
        activations = torch.where(drops[:, None, None], activations, noisy)
    return activations, mask


def drop_latents(latents: Latents, config: PerturbationConfig, generator: torch.Generator) -> Latents:
    """Zero a random share of the elements; the others keep their size."""
    if config.latent_drop == 0:
        return latents
    kept = torch.rand(latents.shape, generator=generator, device=latents.device) >= config.latent_drop
    return latents * kept


def _random_half(batch: int, generator: torch.Generator, device: torch.device) -> torch.Tensor:
    return torch.randperm(batch, generator=generator, device=device) < (batch + 1) // 2
