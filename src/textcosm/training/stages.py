"""The two things that are trained: the autoencoder on activations, the denoiser on latents."""

from collections.abc import Iterator

import torch
from torch import Tensor

from textcosm.config import Config
from textcosm.diffusion.denoiser import Denoiser
from textcosm.diffusion.objective import diffusion_loss
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.normaliser import Normaliser
from textcosm.latent.objective import autoencoder_loss
from textcosm.shapes import Activations
from textcosm.text.backbone import Backbone
from textcosm.text.batching import length_buckets
from textcosm.training.cache import TextBatch, TextStore
from textcosm.training.fit import seed_of

VALID_AT_ONCE = 32
"""Texts per validation batch: logits are length x vocabulary floats each."""


class AutoencoderStage:
    """Compress and decompress the texts of a store (arXiv 2506.21170); a batch holds texts of about one length."""

    name = "autoencoder"

    def __init__(
        self,
        autoencoder: Autoencoder,
        config: Config,
        backbone: Backbone,
        train: TextStore,
        valid: TextStore,
        batch_size: int,
        seed: int = 0,
        multiple: int = 1,
    ):
        """``multiple``: pad lengths to a multiple of this, so that compiled blocks see few shapes."""
        self.module, self.config, self.backbone = autoencoder, config, backbone
        self.train, self.valid = train, valid
        self.batch_size, self.seed, self.multiple = batch_size, seed, multiple
        self.texts_per_step = min(batch_size, len(train))
        self.device = autoencoder.activation_mean.device
        self.generator = torch.Generator(self.device)
        self.epoch, self.plan = 0, self._plan(0)

    def loss(self, step: int) -> dict[str, Tensor]:
        """Cross-entropy, alignment and form losses, and the accuracy under perturbation, of the ``step``-th batch."""
        batch = self.train.batch(self._indices(step), self.device, self.multiple, self.config.autoencoder.max_length)
        self.generator.manual_seed(seed_of(self.seed, self.name, "perturb", step))
        losses = autoencoder_loss(
            self.module,
            activations_of(batch, self.backbone),
            batch.tokens,
            batch.forms,
            batch.mask,
            self.config.perturbation,
            self.config.autoencoder_objective,
            self.generator,
        )
        return {
            "loss": losses.total,
            "cross_entropy": losses.cross_entropy,
            "alignment": losses.alignment,
            "form": losses.form,
            "accuracy": losses.accuracy,
        }

    def validate(self) -> dict[str, float]:
        """Shares of tokens, of written forms, and of whole texts that come back from clean latents."""
        right = torch.zeros(3, device=self.device)
        tokens = 0
        for indices in _chunks(len(self.valid), VALID_AT_ONCE):
            batch = self.valid.batch(indices, self.device)
            tokens += int(self.valid.lengths[torch.as_tensor(indices)].sum())
            right += self._right(batch)
        if tokens == 0:
            return {}
        token, form, text = right.tolist()
        return {"accuracy": token / tokens, "form_accuracy": form / tokens, "exact": text / len(self.valid)}

    def _right(self, batch: TextBatch) -> Tensor:
        model, mask = self.module, batch.mask
        hidden = model.standardise(activations_of(batch, self.backbone))
        estimate = model.decompress(model.compress(hidden, mask))[:, : mask.shape[1]]  # all L positions, as in use
        token = model.token_logits(estimate).argmax(-1) == batch.tokens
        form = model.form_logits(estimate, batch.tokens).argmax(-1) == batch.forms
        return torch.stack([(token & mask).sum(), (form & mask).sum(), (token | ~mask).all(1).sum()])

    def _indices(self, step: int) -> list[int]:
        epoch, place = divmod(step, len(self.train) // self.texts_per_step)
        if epoch != self.epoch:
            self.epoch, self.plan = epoch, self._plan(epoch)
        return self.plan[place]

    def _plan(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.name, "order", epoch))
        plan = length_buckets(self.train.lengths, self.batch_size, generator)
        return [indices for indices in plan if len(indices) == self.texts_per_step]  # the one short batch waits


class DiffusionStage:
    """Learn x_0 of normalised latents (arXiv 2506.21170). They are cached raw: the encoder never runs."""

    name = "diffusion"

    def __init__(
        self,
        denoiser: Denoiser,
        config: Config,
        normaliser: Normaliser,
        train: Tensor,
        valid: Tensor,
        batch_size: int,
        seed: int = 0,
    ):
        """``train`` and ``valid``: raw latents ``(texts, slots, width)``, memory-mapped or on the device."""
        self.module, self.config, self.normaliser = denoiser, config, normaliser
        self.train, self.valid = train, valid
        self.batch_size, self.seed = batch_size, seed
        self.texts_per_step = min(batch_size, len(train))
        self.device = next(denoiser.parameters()).device
        self.generator = torch.Generator(self.device)
        self.epoch, self.order = -1, torch.empty(0)

    def loss(self, step: int) -> dict[str, Tensor]:
        """The squared error of the ``step``-th batch."""
        self.generator.manual_seed(seed_of(self.seed, self.name, "noise", step))
        return {"loss": self._loss(self.train[self._indices(step)])}

    def validate(self) -> dict[str, float]:
        """The same loss on held-out latents, with the same noise at each validation."""
        self.generator.manual_seed(seed_of(self.seed, self.name, "valid"))
        parts = [(len(part), self._loss(part)) for part in self.valid.split(self.batch_size)] if len(self.valid) else []
        if not parts:
            return {}
        return {"loss": sum(n * float(loss) for n, loss in parts) / len(self.valid)}

    def _loss(self, latents: Tensor) -> Tensor:
        clean = self.normaliser.normalise(latents.to(self.device).float())
        return diffusion_loss(self.module, self.config.schedule, clean, self.config.diffusion_objective, self.generator)

    def _indices(self, step: int) -> Tensor:
        epoch, place = divmod(step, len(self.train) // self.texts_per_step)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, self.name, "order", epoch))
            order = torch.randperm(len(self.train), generator=generator)
            self.epoch, self.order = epoch, order.to(self.train.device)
        start = place * self.texts_per_step
        return self.order[start : start + self.texts_per_step]


def activations_of(batch: TextBatch, backbone: Backbone) -> Activations:
    """The cached activations of a batch, else the encoder's."""
    return backbone.encode(batch.tokens, batch.mask) if batch.activations is None else batch.activations


def _chunks(count: int, size: int) -> Iterator[list[int]]:
    return (list(range(start, min(start + size, count))) for start in range(0, count, size))
