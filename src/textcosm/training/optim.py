"""Optimisers: AdamW for vectors, tables and heads; Muon, if asked for, on the hidden matrices of the blocks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration: steepest at zero, singular values end within about [0.7, 1.2] (Jordan 2024)."""


@dataclass(frozen=True)
class ParameterSplit:
    """The trained parameters of a module, by name, in the three ways that they are treated."""

    hidden: dict[str, nn.Parameter]
    """Matrices of linear layers inside the blocks: Muon's."""
    decayed: dict[str, nn.Parameter]
    """Other matrices and tables: AdamW with weight decay."""
    plain: dict[str, nn.Parameter]
    """Gains and biases: AdamW without decay."""


def split_parameters(module: nn.Module) -> ParameterSplit:
    """Sort the parameters that require a gradient; a block is anything inside an ``nn.ModuleList``."""
    inside = {
        id(block) for parent in module.modules() if isinstance(parent, nn.ModuleList) for block in parent.modules()
    }
    split = ParameterSplit({}, {}, {})
    for prefix, owner in module.named_modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_hidden = id(owner) in inside and isinstance(owner, nn.Linear) and parameter.ndim == 2
            kind = split.hidden if is_hidden else split.decayed if parameter.ndim >= 2 else split.plain
            kind[f"{prefix}.{name}" if prefix else name] = parameter
    return split


def build_optimizers(
    module: nn.Module,
    kind: str,
    learning_rate: float,
    muon_learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    eps: float,
) -> list[torch.optim.Optimizer]:
    """One AdamW, and one Muon when ``kind`` is "muon"; each group keeps its peak rate as ``group["peak"]``."""
    split = split_parameters(module)
    decayed = split.decayed if kind == "muon" else split.hidden | split.decayed
    groups = [
        {"params": list(decayed.values()), "weight_decay": weight_decay},
        {"params": list(split.plain.values()), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers: list[torch.optim.Optimizer] = []
    if groups:
        optimizers.append(torch.optim.AdamW(groups, lr=learning_rate, betas=betas, eps=eps, fused=True))
    if kind == "muon" and split.hidden:
        optimizers.append(Muon(split.hidden.values(), lr=muon_learning_rate, weight_decay=weight_decay))
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["peak"] = group["lr"]
    return optimizers


def set_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Every group runs at ``factor`` of its own peak learning rate."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = group["peak"] * factor


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every singular value of an update is about one (Keller Jordan 2024).

    ``torch.optim.Muon`` iterates in bfloat16, which CPUs without it emulate a hundred times too slowly; this one takes float32
    on the CPU, and treats all matrices of one shape as one batch.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    ahead = self._look_ahead(parameter, parameter.grad, group["momentum"])
                    by_shape.setdefault(parameter.shape, []).append((parameter, ahead))
            for pairs in by_shape.values():
                self._move(pairs, group["lr"], group["weight_decay"])

    def _look_ahead(self, parameter: nn.Parameter, gradient: Tensor, momentum: float) -> Tensor:
        """Nesterov's: the gradient, leaning towards its running mean, which takes it in first."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        running = state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(running, momentum)

    def _move(self, pairs: list[tuple[nn.Parameter, Tensor]], lr: float, weight_decay: float) -> None:
        directions = orthogonalise(torch.stack([ahead for _, ahead in pairs]))
        rows, columns = directions.shape[1:]
        rate = lr * max(1.0, rows / columns) ** 0.5  # keeps the size of outputs, not of weights, comparable
        for (parameter, _), direction in zip(pairs, directions, strict=True):
            parameter.mul_(1 - lr * weight_decay).add_(direction, alpha=-rate)


def orthogonalise(
    matrices: Float[Tensor, "batch rows columns"], iterations: int = 5
) -> Float[Tensor, "batch rows columns"]:
    """About ``U V^T`` of each matrix's singular value decomposition, by Newton-Schulz iteration: no decomposition."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
