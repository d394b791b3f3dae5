"""What is trained: the autoencoder on activations, the denoiser on latents, then the decoder on the denoiser's guesses."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from textcosm.config import Config
from textcosm.diffusion.denoiser import Denoiser, Memory
from textcosm.diffusion.objective import diffusion_loss
from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.normaliser import Normaliser
from textcosm.latent.objective import AutoencoderLosses, autoencoder_loss, decoding_loss
from textcosm.shapes import Activations, Latents, Times
from textcosm.text.backbone import Backbone
from textcosm.text.batching import length_buckets
from textcosm.training.cache import TextBatch, TextStore
from textcosm.training.fit import seed_of
from textcosm.training.flop import matrix_numbers, training_flop

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
        self.seed, self.multiple = seed, multiple
        self.batches = Batches(train.lengths, batch_size, seed, self.name)
        self.texts_per_step = self.batches.size
        self.device = autoencoder.activation_mean.device
        self.generator = torch.Generator(self.device)

    def loss(self, step: int) -> dict[str, Tensor]:
        """Cross-entropy, alignment and form losses, and the accuracy under perturbation, of the ``step``-th batch."""
        indices = self.batches.indices(step)
        batch = self.train.batch(indices, self.device, self.multiple, self.config.autoencoder.max_length)
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
        return _named(losses)

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


@dataclass(frozen=True)
class Sources:
    """The sources that the texts of a split answer, row i for text i, as the denoiser reads them."""

    store: TextStore
    backbone: Backbone
    multiple: int = 1
    """Pad lengths to a multiple of this, so that compiled blocks see few shapes; at most to ``limit``."""
    limit: int | None = None
    latents: Tensor | None = None
    """Normalised latents of each source ``(texts, slots, width)``, for a denoiser that reads them."""

    def memory(self, denoiser: Denoiser, indices: Sequence[int] | Tensor, device: torch.device) -> Memory:
        """These sources, from their cached activations if there are any."""
        batch = self.store.batch(indices, device, self.multiple, self.limit)
        latents = None
        if self.latents is not None:
            latents = self.latents[torch.as_tensor(indices, device=self.latents.device)].to(device, torch.float32)
        return denoiser.encode_source(activations_of(batch, self.backbone), batch.mask, latents)


class DiffusionStage:
    """Learn x_0 of normalised latents (arXiv 2506.21170). They are cached raw: the encoder never runs.

    Where the texts answer sources, a batch holds sources of about one length, in mixed order.
    """

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
        train_sources: Sources | None = None,
        valid_sources: Sources | None = None,
    ):
        """``train`` and ``valid``: raw latents ``(texts, slots, width)``, memory-mapped or on the device."""
        self.module, self.config, self.normaliser = denoiser, config, normaliser
        self.train, self.valid = train, valid
        self.train_sources, self.valid_sources = train_sources, valid_sources
        self.batch_size, self.seed = batch_size, seed
        lengths = None if train_sources is None else train_sources.store.lengths
        self.batches = None if lengths is None else Batches(lengths, batch_size, seed, self.name)
        self.texts_per_step = min(batch_size, len(train))
        self.device = next(denoiser.parameters()).device
        self.generator = torch.Generator(self.device)
        self.flop_per_text = self._flop()
        self.epoch, self.order = -1, torch.empty(0)

    def loss(self, step: int) -> dict[str, Tensor]:
        """The squared error of the ``step``-th batch."""
        self.generator.manual_seed(seed_of(self.seed, self.name, "noise", step))
        indices = self._indices(step)
        return {"loss": self._loss(self.train, self.train_sources, indices)}

    def validate(self) -> dict[str, float]:
        """The same loss on held-out latents, with the same noise at each validation."""
        self.generator.manual_seed(seed_of(self.seed, self.name, "valid"))
        parts = torch.arange(len(self.valid), device=self.valid.device).split(self.batch_size) if len(self.valid) else ()
        losses = [len(part) * float(self._loss(self.valid, self.valid_sources, part)) for part in parts]
        return {"loss": sum(losses) / len(self.valid)} if losses else {}

    def _flop(self) -> float:
        """Of one text: the denoiser over its latents, twice forward for those with a first guess, and the source encoder."""
        source = getattr(self.module, "source", None)
        reading = 0 if source is None else matrix_numbers(source)
        guesses = self.config.diffusion_objective.self_condition_probability
        found = training_flop(matrix_numbers(self.module) - reading, self.train.shape[1], guesses)
        if self.train_sources is not None:
            found += training_flop(reading, float(self.train_sources.store.lengths.float().mean()))
        return found

    def _loss(self, raw: Tensor, sources: Sources | None, indices: Tensor) -> Tensor:
        clean = self.normaliser.normalise(raw[indices].to(self.device).float())
        memory = None if sources is None else sources.memory(self.module, indices.cpu(), self.device)
        objective, schedule = self.config.diffusion_objective, self.config.schedule
        return diffusion_loss(self.module, schedule, clean, objective, self.generator, memory)

    def _indices(self, step: int) -> Tensor:
        if self.batches is not None:  # sorted by length within a batch, and only the first rows see a first guess
            generator = torch.Generator().manual_seed(seed_of(self.seed, self.name, "rows", step))
            indices = torch.tensor(self.batches.indices(step))
            return indices[torch.randperm(len(indices), generator=generator)].to(self.train.device)
        epoch, place = divmod(step, len(self.train) // self.texts_per_step)
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, self.name, "order", epoch))
            order = torch.randperm(len(self.train), generator=generator)
            self.epoch, self.order = epoch, order.to(self.train.device)
        start = place * self.texts_per_step
        return self.order[start : start + self.texts_per_step]


@dataclass(frozen=True)
class AdaptationConfig:
    """What the decoder reads while it is adapted to the denoiser: guesses of x_0 at times up to ``max_time``, and clean
    latents for a share ``clean`` of the texts, so that reconstruction is not forgotten."""

    max_time: float = 0.6
    """Times are uniform from the earliest that the denoiser was trained at to this; sampling should end well below it."""
    clean: float = 0.2
    """Share of the texts whose latents are left as they are."""

    def __post_init__(self) -> None:
        if not 0 < self.max_time <= 1:
            raise ConfigError(f"adaptation.max_time is {self.max_time}; give more than 0, at most 1")
        if not 0 <= self.clean < 1:
            raise ConfigError(f"adaptation.clean is {self.clean}; give 0 or more and less than 1")


class AdaptationStage:
    """Train the decoder to read what the denoiser writes: its guesses of a text's latents, shrunk and blurred as they are.

    Decoding is otherwise trained on latents of real texts only, and sampling never ends on those. The compressor, the
    statistics and the denoiser stay as they are, so the latents and what was learned about them stay valid.
    """

    name = "adaptation"

    def __init__(
        self,
        autoencoder: Autoencoder,
        denoiser: Denoiser,
        normaliser: Normaliser,
        config: Config,
        adaptation: AdaptationConfig,
        backbone: Backbone,
        train: TextStore,
        valid: TextStore,
        train_latents: Tensor,
        valid_latents: Tensor,
        batch_size: int,
        seed: int = 0,
        train_sources: Sources | None = None,
        valid_sources: Sources | None = None,
    ):
        """``train_latents[i]`` are the raw latents of text i of ``train`` ``(texts, slots, width)``; likewise for valid."""
        autoencoder.freeze_compressor()
        self.module, self.denoiser, self.normaliser = autoencoder, denoiser, normaliser
        self.config, self.adaptation, self.backbone = config, adaptation, backbone
        self.train, self.valid = train, valid
        self.train_latents, self.valid_latents = train_latents, valid_latents
        self.train_sources, self.valid_sources = train_sources, valid_sources
        self.seed, self.device = seed, autoencoder.activation_mean.device
        self.batches = Batches(train.lengths[: train.main], batch_size, seed, self.name)
        self.texts_per_step = self.batches.size
        self.generator = torch.Generator(self.device)

    def loss(self, step: int) -> dict[str, Tensor]:
        """The autoencoder's losses on the ``step``-th batch, from guessed latents; accuracy is over guessed and clean ones."""
        indices = self.batches.indices(step)
        batch = self.train.batch(indices, self.device)
        self.generator.manual_seed(seed_of(self.seed, self.name, "noise", step))
        clean = self._latents(self.train_latents, indices)
        order = torch.randperm(len(indices), generator=self.generator, device=self.device)
        guessed = order[round(self.adaptation.clean * len(indices)) :]
        draws = torch.rand(len(guessed), generator=self.generator, device=self.device)
        memory = self._memory(self.train_sources, [indices[i] for i in guessed.tolist()])
        clean[guessed] = self._guess(clean[guessed], self._times(draws), memory)
        losses = decoding_loss(
            self.module,
            self.normaliser.denormalise(clean),
            self.module.standardise(activations_of(batch, self.backbone)),
            batch.tokens,
            batch.forms,
            batch.mask,
            self.config.autoencoder_objective,
            self.generator,
        )
        return _named(losses)

    def validate(self) -> dict[str, float]:
        """Shares of tokens that come back from clean latents, and from guesses half way to ``max_time`` and there."""
        self.generator.manual_seed(seed_of(self.seed, self.name, "valid"))
        right, tokens = torch.zeros(3, device=self.device), 0
        for indices in _chunks(len(self.valid), VALID_AT_ONCE):
            batch = self.valid.batch(indices, self.device)
            clean = self._latents(self.valid_latents, indices)
            at = [torch.full((len(clean),), share, device=self.device) for share in (0.5, 1.0)]
            memory = self._memory(self.valid_sources, indices)
            views = [clean, *(self._guess(clean, self._times(shares), memory) for shares in at)]
            right += torch.stack([self._right(batch, latents) for latents in views])
            tokens += int(batch.mask.sum())
        names = ("accuracy", "accuracy_half_noise", "accuracy_full_noise")
        return dict(zip(names, (right / tokens).tolist(), strict=True)) if tokens else {}

    def _times(self, shares: Times) -> Times:
        """From the earliest time that the denoiser was trained at (share 0) to ``max_time`` (share 1)."""
        earliest = self.config.diffusion_objective.min_time
        return earliest + shares * (self.adaptation.max_time - earliest)

    def _latents(self, raw: Tensor, indices: list[int]) -> Latents:
        return self.normaliser.normalise(raw[torch.as_tensor(indices, device=raw.device)].to(self.device).float())

    @torch.no_grad()
    def _memory(self, sources: Sources | None, indices: list[int]) -> Memory | None:
        return None if sources is None else sources.memory(self.denoiser, indices, self.device)

    @torch.no_grad()
    def _guess(self, clean: Latents, time: Times, memory: Memory | None) -> Latents:
        """The denoiser's x_0 from noised latents, its own first guess fed back as in sampling."""
        schedule = self.config.schedule
        noise = torch.randn(clean.shape, generator=self.generator, device=self.device)
        alpha, sigma = (share(time)[:, None, None] for share in (schedule.alpha, schedule.sigma))
        noisy = alpha * clean + sigma * noise
        return self.denoiser(noisy, time, self.denoiser(noisy, time, None, memory), memory)

    def _right(self, batch: TextBatch, latents: Latents) -> Tensor:
        estimate = self.module.decompress(self.normaliser.denormalise(latents))[:, : batch.mask.shape[1]]
        return ((self.module.token_logits(estimate).argmax(-1) == batch.tokens) & batch.mask).sum()


class Batches:
    """Which texts the ``step``-th batch holds: texts of about one length, another order each epoch."""

    def __init__(self, lengths: Tensor, batch_size: int, seed: int, name: str):
        self.lengths, self.batch_size, self.seed, self.name = lengths, batch_size, seed, name
        self.size = min(batch_size, len(lengths))
        self.epoch, self.plan = 0, self._plan(0)

    def indices(self, step: int) -> list[int]:
        epoch, place = divmod(step, len(self.lengths) // self.size)
        if epoch != self.epoch:
            self.epoch, self.plan = epoch, self._plan(epoch)
        return self.plan[place]

    def _plan(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, self.name, "order", epoch))
        plan = length_buckets(self.lengths, self.batch_size, generator)
        return [indices for indices in plan if len(indices) == self.size]  # the one short batch waits


def _named(losses: AutoencoderLosses) -> dict[str, Tensor]:
    return {
        "loss": losses.total,
        "cross_entropy": losses.cross_entropy,
        "alignment": losses.alignment,
        "form": losses.form,
        "accuracy": losses.accuracy,
    }


def activations_of(batch: TextBatch, backbone: Backbone) -> Activations:
    """The cached activations of a batch, else the encoder's."""
    return backbone.encode(batch.tokens, batch.mask) if batch.activations is None else batch.activations


def _chunks(count: int, size: int) -> Iterator[list[int]]:
    return (list(range(start, min(start + size, count))) for start in range(0, count, size))
