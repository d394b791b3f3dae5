"""One step of the denoiser at the published size: ours beside a straightforward implementation of the same formulas.

    python benchmarks/step.py --batch 1 64 --rounds 5

The straightforward one has the same weights and is written as the paper describes it: queries, keys and values from three
matrices, attention by an explicit softmax, rotary angles made in every block, gate and value from two matrices. Their
outputs agree to 1e-4; the table has medians over rounds that go over all of them, and how many times as fast each is.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from textcosm.diffusion.denoiser import Denoiser, DenoiserBlock, DenoiserConfig
from textcosm.evaluation.bench import in_rounds, machine
from textcosm.evaluation.markdown import markdown_table
from textcosm.nn.precision import Precision, is_able

PERIOD, THETA, EPS = 10.0, 1e4, 1e-6


@dataclass(frozen=True)
class Sizes:
    """Of the denoiser; the defaults are the published ones."""

    width: int = 768
    depth: int = 12
    heads: int = 12
    ff_width: int = 3072
    slots: int = 16


def main(
    batch: tuple[int, ...] = (1, 64),
    rounds: int = 5,
    precisions: tuple[Precision, ...] = ("float16", "bfloat16", "int8"),
    threads: int = 2,
    device: str = "cpu",
    sizes: Sizes = Sizes(),
    seed: int = 0,
) -> None:
    """Print the table as Markdown; what this machine cannot do is said on stderr and left out."""
    torch.set_num_threads(threads)
    steps = variants(sizes, precisions, torch.device(device), seed)
    calls = {name: _call(step, sizes, torch.device(device)) for name, step in steps.items()}
    with torch.no_grad():
        taken = in_rounds(calls, batch, rounds, seed)
    middle = {name: {n: median(w.seconds for w in taken[name][n]) for n in batch} for name in steps}
    head = ("one step", *(f"{what}, batch {n}" for n in batch for what in ("ms", "x")))
    first = middle["straightforward, float32"]
    rows = [
        (name, *(cell for n in batch for cell in (f"{1e3 * own[n]:.1f}", f"{first[n] / own[n]:.2f}")))
        for name, own in middle.items()
    ]
    print(markdown_table(head, rows))
    print(f"{machine(torch.device(device))}; {_count(sizes)}; medians of {rounds} rounds", file=sys.stderr)


Step = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``(noisy, time, self_condition) -> x_0``."""


def variants(
    sizes: Sizes, precisions: tuple[Precision, ...], device: torch.device, seed: int = 0
) -> dict[str, Step]:
    """The straightforward step, ours, and ours in every precision that this machine has; all with the same weights.

    bfloat16 has a straightforward step of its own: float32 weights under autocast, as such implementations run.
    """
    ours = random_denoiser(sizes, seed).to(device)
    plain = Straightforward(ours)
    found: dict[str, Step] = {"straightforward, float32": plain, "ours, float32": ours}
    for precision in precisions:
        if not is_able(device, precision):
            print(f"{precision} has no fast matrices on this {device.type}: left out", file=sys.stderr)
            continue
        lower = random_denoiser(sizes, seed).to(device)
        lower.lower_precision(precision)
        if precision == "bfloat16":
            found["straightforward, bfloat16"] = _under_autocast(plain, device)
            found["ours, bfloat16"] = _under_autocast(lower, device)
        else:
            found[f"ours, {precision}"] = lower
    return found


def random_denoiser(sizes: Sizes, seed: int = 0) -> Denoiser:
    """An untrained denoiser in which nothing is zero, so that every term shows in its output."""
    config = DenoiserConfig(sizes.width, sizes.depth, sizes.heads, sizes.ff_width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = Denoiser(config, sizes.width)
        for parameter in denoiser.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.5 / math.sqrt(parameter.shape[1]))
    return denoiser.eval().requires_grad_(False)


class Straightforward(nn.Module):
    """The published denoiser written down line by line, with the weights of one of ours."""

    def __init__(self, ours: Denoiser) -> None:
        super().__init__()
        self.config, self.time, self.norm = ours.config, ours.time, ours.norm
        self.blocks = nn.ModuleList(StraightforwardBlock(block, ours.config.heads) for block in ours.blocks)  # type: ignore[arg-type]

    def forward(self, noisy: Tensor, time: Tensor, self_condition: Tensor) -> Tensor:
        x = noisy
        half = self.config.width // 2
        rates = torch.exp(-math.log(PERIOD) * torch.arange(half, device=x.device) / half)
        angles = time[:, None] * rates
        signal = self.time(torch.cat((angles.cos(), angles.sin()), -1))
        middle = self.config.depth // 2
        skips: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if i < middle:
                skips.append(x)
            elif i >= self.config.depth - middle:
                x = x + skips.pop()
            x = block(x, signal, self_condition)
        return self.norm(x)


class StraightforwardBlock(nn.Module):
    """Every matrix on its own."""

    def __init__(self, ours: DenoiserBlock, heads: int) -> None:
        super().__init__()
        self.heads, self.from_time, self.from_clean = heads, ours.from_time, ours.from_clean
        body = ours.body
        self.attention_norm, self.feed_forward_norm = body.attention_norm, body.feed_forward_norm
        self.queries, self.keys, self.values = (_linear(part) for part in body.attention.enter.weight.chunk(3))
        self.leave = _linear(body.attention.leave.weight)
        self.gate, self.up = (_linear(part) for part in body.feed_forward.enter.weight.chunk(2))
        self.down = _linear(body.feed_forward.leave.weight)

    def forward(self, x: Tensor, signal: Tensor, self_condition: Tensor) -> Tensor:
        x = x + self.from_time(signal)[:, None] + self.from_clean(self_condition)
        x = x + self.attend(self.attention_norm(x))
        normed = self.feed_forward_norm(x)
        return x + self.down(F.silu(self.gate(normed)) * self.up(normed))

    def attend(self, x: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.queries, self.keys, self.values))
        q, k = self.turn(q), self.turn(k)
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        return self.leave((weights @ v).transpose(1, 2).flatten(-2))

    @staticmethod
    def turn(x: Tensor) -> Tensor:
        """Rotary positions, their angles made here and now."""
        length, width = x.shape[-2:]
        rates = THETA ** -(torch.arange(0, width, 2, device=x.device) / width)
        angles = torch.arange(length, device=x.device)[:, None] * rates
        cos, sin = (torch.cat((part, part), -1).to(x.dtype) for part in (angles.cos(), angles.sin()))
        left, right = x.chunk(2, -1)
        return x * cos + torch.cat((-right, left), -1) * sin


def inputs(n: int, sizes: Sizes, device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, times and a self-condition for ``n`` texts."""
    generator = torch.Generator().manual_seed(seed)
    noisy, clean = torch.randn(2, n, sizes.slots, sizes.width, generator=generator).to(device)
    return noisy, torch.full((n,), 0.5, device=device), clean


def _linear(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device=weight.device)
    linear.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    return linear


def _under_autocast(step: nn.Module, device: torch.device) -> Step:
    def run(noisy: Tensor, time: Tensor, self_condition: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return step(noisy, time, self_condition)

    return run


def _call(step: Step, sizes: Sizes, device: torch.device) -> Callable[[int, int], list[str]]:
    """The step as in_rounds calls it: for n texts."""

    def run(n: int, seed: int) -> list[str]:
        given = inputs(n, sizes, device)
        step(*given)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return [""] * n

    return run


def _count(sizes: Sizes) -> str:
    total = sum(p.numel() for p in random_denoiser(sizes).parameters())
    return f"{total / 1e6:.1f}M parameters, N = {sizes.slots}"


if __name__ == "__main__":
    tyro.cli(main)
