"""Cheaper numbers for the matrices of a network that only writes: half, bfloat16 and int8, where the machine has them."""

import warnings
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textcosm.errors import ConfigError

Precision = Literal["float32", "float16", "bfloat16", "int8"]
"""Of matrices in use; what a checkpoint was saved in is another matter.

float16: half the memory, products in float32, the same x_0 to about 1e-3 (CPUs). bfloat16: products in bfloat16 where the
device has instructions for it. int8: a quarter of the memory and int8 products, x_0 off by some percent (CPUs).
"""


def lower_precision(
    module: nn.Module, precision: Precision, delicate: Callable[[str], bool] = lambda name: False
) -> str | None:
    """Turn every Linear inside to ``precision``, for good; a note where this machine cannot, and nothing is changed.

    delicate: in int8, whether the Linear of this name is float16 all the same (its inputs have outliers, or it stands at
    an end of the network). bfloat16 is to be used under autocast. Raises ConfigError for an unknown precision.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"precision {precision!r} is unknown; choose one of {', '.join(get_args(Precision))}")
    if precision == "float32":
        return None
    device = next(module.parameters()).device
    if not is_able(device, precision):
        return f"{precision} has no fast matrices on this {device.type}: float32 is used"
    for parent, child, name in _linears(module):
        if precision == "bfloat16":
            child.to(torch.bfloat16)
        elif precision == "int8" and not delicate(name):
            setattr(parent, name.rpartition(".")[2], Int8Linear(child))
        else:
            setattr(parent, name.rpartition(".")[2], HalfLinear(child))
    return None


def is_able(device: torch.device, precision: Precision) -> bool:
    """Whether this device gains from ``precision``: torch has int8 and float16 matrices for CPUs, if it was built so."""
    if precision == "float32":
        return True
    if precision == "bfloat16":
        return has_fast_bfloat16(device)
    if device.type != "cpu":
        return False
    try:
        layer = (Int8Linear if precision == "int8" else HalfLinear)(nn.Linear(8, 8))
        return bool(layer(torch.zeros(1, 8)).isfinite().all())
    except (RuntimeError, AttributeError):  # no engine, or none that can
        return False


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 by instructions of its own; a CPU without emulates them, many times slower."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        able = torch.cpu.get_capabilities()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return False


class HalfLinear(nn.Module):
    """A Linear with float16 weights laid out for the CPU once, inputs and sums in float32; it has no gradient."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.packed = torch.ops.quantized.linear_prepack_fp16(*_numbers(linear))

    def forward(self, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        return torch.ops.quantized.linear_dynamic_fp16(x, self.packed)


class Int8Linear(nn.Module):
    """A Linear with int8 weights, a scale for each output, and inputs turned to int8 as they come (one scale a call).

    It has no gradient. One large input number costs all others their precision: mind the layers that see such.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, bias = _numbers(linear)
        scales = (weight.abs().amax(1) / 127).clamp_min(1e-12).double()
        zeros = torch.zeros(len(scales), dtype=torch.long)
        with warnings.catch_warnings():  # torch means to drop such tensors; without them, is_able says no
            warnings.simplefilter("ignore", UserWarning)
            whole = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(whole, bias)

    def forward(self, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        # 7 bits for the input: CPUs without VNNI add pairs of products in 16 bits, which would overflow.
        return torch.ops.quantized.linear_dynamic(x, self.packed, reduce_range=True)


def _numbers(linear: nn.Linear) -> tuple[Tensor, Tensor | None]:
    bias = None if linear.bias is None else linear.bias.detach().float()
    return linear.weight.detach().float(), bias


def _linears(module: nn.Module) -> list[tuple[nn.Module, nn.Linear, str]]:
    """Parent, Linear and whole name of each."""
    found: list[tuple[nn.Module, nn.Linear, str]] = []
    for path, parent in module.named_modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear):
                found.append((parent, child, f"{path}.{name}" if path else name))
    return found
