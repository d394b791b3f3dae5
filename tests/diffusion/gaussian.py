"""A distribution whose denoiser and whose probability flow are known: x_0 ~ Normal(MEAN, SPREAD^2), independently."""

import torch

from textcosm.diffusion.process import ReverseProcess
from textcosm.diffusion.schedule import TanSchedule

MEAN, SPREAD = 1.5, 0.4
SCHEDULE = TanSchedule(d=5.0)


def total(time):
    """Standard deviation of x_t."""
    return torch.hypot(SCHEDULE.alpha(time) * SPREAD, SCHEDULE.sigma(time))


def denoise(noisy, time, self_condition=None):
    """E[x_0 | x_t]; the time is a number or one per sample."""
    if isinstance(time, torch.Tensor):
        time = time[:, None, None]
    alpha = SCHEDULE.alpha(time)
    gain = alpha * SPREAD**2 / total(time) ** 2
    return (MEAN + gain * (noisy - alpha * MEAN)).to(noisy.dtype)


def flow(noisy, time, target):
    """Where the probability flow carries ``noisy`` from ``time`` to ``target``."""
    score = (noisy - SCHEDULE.alpha(time) * MEAN) / total(time)
    return SCHEDULE.alpha(target) * MEAN + total(target) * score


def process(draw=None):
    """A reverse process with the exact denoiser."""
    return ReverseProcess(SCHEDULE, denoise, draw or (lambda: torch.zeros(3, 1, 1, dtype=torch.float64)))
