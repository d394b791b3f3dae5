"""The arithmetic of training: how many floating-point operations a text takes, and what a device could do at most."""

import torch
from torch import nn

PEAKS = {
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "T4": 65e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
}
"""Dense bfloat16 (T4: float16) operations a second, as the makers' data sheets have them, by a part of the device's name."""


def matrix_numbers(module: nn.Module) -> int:
    """Numbers in the matrices that every vector goes through: those of Linear layers."""
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Linear))


def training_flop(numbers: float, vectors: float, forward_only: float = 0.0) -> float:
    """Operations of training on one text: 2 a number and vector forward and 4 backward (arXiv 2001.08361).

    numbers: in matrices. vectors: of a text that go through them. forward_only: passes without a gradient besides.
    Attention's own products are left out.
    """
    return (6 + 2 * forward_only) * numbers * vectors


def utilisation(flop_per_second: float, device: torch.device, dtype: torch.dtype | None) -> float | None:
    """The share of the device's peak, as "model FLOPs utilisation" (arXiv 2204.02311) has it; None where it is not known."""
    if device.type != "cuda" or dtype != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name(device)
    return next((flop_per_second / peak for part, peak in PEAKS.items() if part in name), None)
