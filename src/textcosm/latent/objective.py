"""The autoencoder's loss: token cross-entropy + aligned MSE (+ written forms), under perturbations."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.perturb import PerturbationConfig, drop_latents, perturb_activations
from textcosm.shapes import Activations, Forms, Latents, Mask, Tokens


@dataclass(frozen=True)
class AutoencoderObjectiveConfig:
    """Weights of the loss and how much of the token head is computed."""

    alignment: float = 1.0
    """Weight of the MSE between the decompressor's output and the clean standardised activations."""
    form: float = 0.1
    """Weight of the cross-entropy of the written forms (not in the paper; 0 switches it off)."""
    head_fraction: float = 1.0
    """Share of the real positions whose token is scored at a step."""
    head_negatives: int = 0
    """0 scores the whole vocabulary; k scores the batch's own tokens and k random others, whose weight stands for
    the rest of the vocabulary (an unbiased estimate of the softmax's sum)."""
    full_length_share: float = 0.25
    """Share of the steps that run all L positions; the others run the batch's longest text only."""

    def __post_init__(self) -> None:
        for name in ("alignment", "form", "head_negatives"):
            if getattr(self, name) < 0:
                raise ConfigError(f"autoencoder_objective.{name} is {getattr(self, name)}; give 0 or more")
        if not 0 < self.head_fraction <= 1:
            raise ConfigError(f"autoencoder_objective.head_fraction is {self.head_fraction}; give more than 0, up to 1")
        if not 0 <= self.full_length_share <= 1:
            raise ConfigError(f"autoencoder_objective.full_length_share is {self.full_length_share}; give 0 to 1")


@dataclass(frozen=True)
class AutoencoderLosses:
    """The parts of one step's loss, each a scalar; ``accuracy`` is the share of scored tokens ranked first."""

    total: Tensor
    cross_entropy: Tensor
    alignment: Tensor
    form: Tensor
    accuracy: Tensor


def autoencoder_loss(
    autoencoder: Autoencoder,
    activations: Activations,
    tokens: Tokens,
    forms: Forms,
    mask: Mask,
    perturbation: PerturbationConfig,
    objective: AutoencoderObjectiveConfig,
    generator: torch.Generator,
) -> AutoencoderLosses:
    """Perturb, compress, perturb, decompress, score. ``activations`` are raw; every mean is over real positions."""
    clean = autoencoder.standardise(activations)
    noisy, seen = perturb_activations(clean, mask, perturbation, generator)
    latents = drop_latents(autoencoder.compress(noisy, seen), perturbation, generator)
    return decoding_loss(autoencoder, latents, clean, tokens, forms, mask, objective, generator)


def decoding_loss(
    autoencoder: Autoencoder,
    latents: Latents,
    clean: Activations,
    tokens: Tokens,
    forms: Forms,
    mask: Mask,
    objective: AutoencoderObjectiveConfig,
    generator: torch.Generator,
) -> AutoencoderLosses:
    """Decompress raw ``latents``, wherever they come from, and score the result against the texts' tokens, forms and
    standardised activations ``clean``; every mean is over real positions."""
    hidden = autoencoder.decompress(latents, _run_length(autoencoder, tokens.shape[1], objective, generator))
    real = hidden[:, : tokens.shape[1]][mask]
    alignment = F.mse_loss(real, clean[mask])
    form = F.cross_entropy(autoencoder.form_head(real).float(), forms[mask])
    scored = _choose(len(real), objective.head_fraction, generator, real.device)
    cross_entropy, accuracy = _token_loss(autoencoder, real[scored], tokens[mask][scored], objective, generator)
    total = cross_entropy + objective.alignment * alignment + objective.form * form
    return AutoencoderLosses(total, cross_entropy, alignment, form, accuracy)


def _run_length(
    autoencoder: Autoencoder, longest: int, objective: AutoencoderObjectiveConfig, generator: torch.Generator
) -> int:
    """All L positions now and then, so that the decompressor is at home in both (text ends at its end token)."""
    draw = torch.rand((), generator=generator, device=generator.device).item()
    return autoencoder.config.max_length if draw < objective.full_length_share else longest


def _choose(count: int, share: float, generator: torch.Generator, device: torch.device) -> Int[Tensor, " chosen"]:
    if share == 1:
        return torch.arange(count, device=device)
    return torch.randperm(count, generator=generator, device=device)[: max(1, round(share * count))]


def _token_loss(
    autoencoder: Autoencoder,
    hidden: Float[Tensor, "positions width"],
    targets: Int[Tensor, " positions"],
    objective: AutoencoderObjectiveConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and accuracy over the whole vocabulary, or over the batch's tokens and weighted negatives."""
    weight = autoencoder.token_head.weight
    vocab_size = len(weight)
    if 0 < objective.head_negatives < vocab_size:
        positives, targets = targets.unique(return_inverse=True)
        absent = torch.ones(vocab_size, dtype=torch.bool, device=hidden.device)
        absent[positives] = False
        others = absent.nonzero()[:, 0]
        picks = torch.randint(len(others), (objective.head_negatives,), generator=generator, device=hidden.device)
        logits = F.linear(hidden, weight[torch.cat([positives, others[picks]])]).float()
        correction = torch.zeros(logits.shape[1], device=hidden.device)
        correction[len(positives) :] = torch.tensor(len(others) / objective.head_negatives).log()
        logits = logits + correction
    else:
        logits = F.linear(hidden, weight).float()
    return F.cross_entropy(logits, targets), (logits.argmax(-1) == targets).float().mean()
