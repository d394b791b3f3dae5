"""What the denoiser learns: plain squared error on x_0, half of the time with its own first guess as an input."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from textcosm.diffusion.denoiser import Memory
from textcosm.diffusion.schedule import TanSchedule
from textcosm.errors import ConfigError
from textcosm.shapes import Latents, Times


@dataclass(frozen=True)
class DiffusionObjectiveConfig:
    """What is hidden, and what is asked for, in training; times are uniform on [min_time, 1].

    self_condition_probability: share of samples that see a first guess.
    source_drop_probability: share of samples that do not see their source, where there are sources: the network then
        learns both halves of classifier-free guidance (arXiv 2207.12598).
    self_guidance: guidance with the self-condition as the condition, trained in (as arXiv 2502.12154 does with labels):
        the target of samples that see a guess is x_0 + w (x_0 predicted with it - the guess). It pushes the prediction
        as far past x_0 as guidance of scale 1 / (1 - w) would, without its second pass. 0 for none, as published.
    """

    self_condition_probability: float = 0.5
    min_time: float = 1e-5
    source_drop_probability: float = 0.1
    self_guidance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.self_condition_probability <= 1:
            raise ConfigError(
                f"self_condition_probability = {self.self_condition_probability} is outside [0, 1]; the paper uses 0.5"
            )
        if not 0 < self.min_time < 1:
            raise ConfigError(f"min_time = {self.min_time} is outside (0, 1); the paper uses 1e-5")
        if not 0 <= self.source_drop_probability < 1:
            raise ConfigError(
                f"source_drop_probability = {self.source_drop_probability} is outside [0, 1); the usual value is 0.1"
            )
        if not 0 <= self.self_guidance < 1:
            raise ConfigError(f"self_guidance = {self.self_guidance} is outside [0, 1); 0 leaves it out, 0.3 is a scale of 1.4")
        if self.self_guidance and not self.self_condition_probability:
            raise ConfigError(
                f"self_guidance = {self.self_guidance} needs first guesses; set self_condition_probability above 0"
            )


def diffusion_loss(
    denoiser: Callable[..., Latents],
    schedule: TanSchedule,
    latents: Latents,
    config: DiffusionObjectiveConfig,
    generator: torch.Generator,
    memory: Memory | None = None,
) -> Float[Tensor, ""]:
    """Mean squared error of x_0 over normalised ``latents``, at a random time for each sample (arXiv 2506.21170).

    denoiser: ``(noisy, time, self_condition, memory) -> x_0``, a Denoiser or what torch.compile made of one.
    Randomness comes from ``generator`` (on any device) alone, but for dropout.
    """
    n, device = latents.shape[0], latents.device
    uniform = torch.rand(2, generator=generator, device=generator.device).to(device)
    # Uniform for each sample, and evenly spread over the batch: the loss varies less from batch to batch.
    strata = torch.randperm(n, generator=generator, device=generator.device).to(device)
    time = config.min_time + (1 - config.min_time) * (strata + uniform[0]) / n
    noise = torch.randn(latents.shape, generator=generator, device=generator.device).to(latents)
    noisy = _scale(schedule.alpha(time), latents) + _scale(schedule.sigma(time), noise)
    if memory is not None:
        memory = memory.without(_some(n, config.source_drop_probability, generator).to(device))
    # The expected share of the rows, not a coin per batch: each step then costs the same, and varies less.
    share = float(config.self_condition_probability * n)
    guessed = int(share) if share.is_integer() else int(share + uniform[1].item())  # the item() waits for the device
    guess = _first_guess(denoiser, noisy, time, guessed, memory)
    clean = denoiser(noisy, time, guess, memory)
    target = latents.float()
    if config.self_guidance and guess is not None:
        push = torch.zeros_like(target)
        push[:guessed] = config.self_guidance * (clean.detach() - guess)[:guessed].float()
        target = target + push
    return F.mse_loss(clean.float(), target)


def _some(n: int, share: float, generator: torch.Generator) -> Bool[Tensor, " batch"]:
    """True for the expected ``share`` of n rows, drawn anew."""
    uniform = torch.rand(1, generator=generator, device=generator.device)
    return torch.randperm(n, generator=generator, device=generator.device) < (share * n + uniform).floor()


@torch.no_grad()
def _first_guess(
    denoiser: Callable[..., Latents], noisy: Latents, time: Times, rows: int, memory: Memory | None
) -> Latents | None:
    """x_0 of the first ``rows`` samples from a pass without self-condition, zeros for the others."""
    if rows == 0:
        return None
    clean = denoiser(noisy[:rows], time[:rows], None, memory[:rows] if memory else None)
    return F.pad(clean.to(noisy.dtype), (0, 0, 0, 0, 0, noisy.shape[0] - rows))


def _scale(share: Times, latents: Latents) -> Latents:
    return share[:, None, None].to(latents.dtype) * latents
