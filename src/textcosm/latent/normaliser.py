"""Normalisation of latents per (slot, feature), from the texts that the diffusion model learns; PCA, if asked for."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import Autoencoder
from textcosm.shapes import Latents

VARIANCE_FLOOR = 1e-4

RawLatents = Float[Tensor, "batch slots raw_width"]
"""Latents as the compressor makes them, before normalisation."""


@dataclass(frozen=True)
class NormaliserConfig:
    """What the diffusion model sees of the latents."""

    pca_width: int = 0
    """Features a slot keeps, its leading principal components, each scaled to unit variance; 0 keeps all as they are."""

    def __post_init__(self) -> None:
        if self.pca_width < 0:
            raise ConfigError(f"normaliser.pca_width is {self.pca_width}; give 0 (off) or more")


class Normaliser(nn.Module):
    """``(z - mean) / std`` or, with PCA, ``(z - mean) @ components.T / std``; the statistics are buffers.

    They are kept per slot ``(slots, width)`` or, ``shared``, once for all slots ``(1, width)``: for uncompressed
    latents, whose late positions few texts reach.
    """

    mean: Tensor
    std: Tensor
    components: Tensor | None

    def __init__(self, slots: int, latent_width: int, config: NormaliserConfig | None = None, shared: bool = False):
        super().__init__()
        kept = (config or NormaliserConfig()).pca_width
        if kept > latent_width:
            raise ConfigError(f"normaliser.pca_width is {kept}, more than the latents' width {latent_width}; lower it")
        rows = 1 if shared else slots
        self.slots, self.width = slots, kept or latent_width
        self.register_buffer("mean", torch.zeros(rows, latent_width))
        self.register_buffer("std", torch.ones(rows, self.width))
        self.register_buffer("components", torch.eye(kept, latent_width).repeat(rows, 1, 1) if kept else None)

    @property
    def shape(self) -> tuple[int, int]:
        """``(slots, width)`` of a text's normalised latents."""
        return self.slots, self.width

    def fit(self, batches: Iterable[Float[Tensor, "_ slots raw_width"]]) -> None:
        """Take the statistics of clean latents; sums are kept in float64, the variance is floored at 1e-4."""
        rows, width = self.mean.shape
        total = torch.zeros(rows, width, dtype=torch.float64, device=self.mean.device)
        products = torch.zeros(rows, width, *([] if self.components is None else [width])).to(total)
        texts = count = 0
        for latents in batches:
            exact = latents.to(total.device, torch.float64)
            texts += len(exact)
            exact = exact.reshape(-1, rows, width)  # shared: every slot is a sample
            count += len(exact)
            total += exact.sum(0)
            products += exact.square().sum(0) if self.components is None else torch.einsum("bri,brj->rij", exact, exact)
        if texts < 2:
            raise ConfigError(f"latent statistics need 2 texts or more, got {texts}; give more data")
        mean = total / count
        self.mean.copy_(mean)
        if self.components is None:
            variance = products / count - mean.square()
        else:
            variance, components = _leading(products / count - mean[:, :, None] * mean[:, None, :], self.width)
            self.components.copy_(components)
        self.std.copy_(variance.clamp_min(VARIANCE_FLOOR).sqrt())

    def normalise(self, latents: RawLatents) -> Latents:
        """Raw latents of the compressor to zero mean and unit variance."""
        centred = latents - self.mean
        if self.components is not None:
            centred = (centred[:, :, None] @ self.components.mT)[:, :, 0]
        return centred / self.std

    def denormalise(self, latents: Latents) -> RawLatents:
        """Normalised latents back to what the decompressor reads; what PCA left out comes back as its mean."""
        scaled = latents * self.std
        if self.components is not None:
            scaled = (scaled[:, :, None] @ self.components)[:, :, 0]
        return scaled + self.mean


def new_normaliser(autoencoder: Autoencoder, config: NormaliserConfig) -> Normaliser:
    """One of the sizes of this autoencoder's latents, not yet fitted; ConfigError if it keeps more than there is."""
    sizes = autoencoder.config
    return Normaliser(sizes.num_latents, autoencoder.latent_width, config, shared=not sizes.compresses)


def _leading(
    covariance: Float[Tensor, "rows width width"], kept: int
) -> tuple[Float[Tensor, "rows kept"], Float[Tensor, "rows kept width"]]:
    """The largest eigenvalues of each row's matrix, and their eigenvectors."""
    values, vectors = torch.linalg.eigh(covariance)
    return values.flip(-1)[:, :kept], vectors.mT.flip(1)[:, :kept]
