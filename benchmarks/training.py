"""Texts a second of diffusion training: on cached latents, as here, beside the paper's loop, which encodes every batch.

    python benchmarks/training.py --rounds 3

Both train the same denoiser with the same optimiser and precision, in turns. The paper's loop runs the frozen encoder (a
BERT of random weights) and the compressor over each batch's tokens before it takes its step, and makes first guesses for
a whole batch half of the time; ours reads normalised latents that were made once. The defaults are the published sizes;
``--sizes.width 128`` and the like make it small. How long the cache takes to make is not counted: it is one pass over the
texts, which the second line on stderr gives as a number of training steps' texts.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor, nn

from textcosm.config import Config
from textcosm.diffusion.denoiser import DenoiserConfig, new_denoiser
from textcosm.evaluation.bench import in_rounds, machine, seconds_a_text
from textcosm.evaluation.markdown import markdown_table
from textcosm.latent.autoencoder import Autoencoder, AutoencoderConfig
from textcosm.latent.normaliser import new_normaliser
from textcosm.training.fit import FitConfig, advance, open_state
from textcosm.training.stages import DiffusionStage

VOCABULARY = 28_996


@dataclass(frozen=True)
class Sizes:
    """Of everything; the defaults are the published ones."""

    width: int = 768
    heads: int = 12
    encoder_depth: int = 12
    compressor_depth: int = 12
    denoiser_depth: int = 12
    ff_width: int = 3072
    tokens: int = 128
    slots: int = 16


def main(
    batch_size: int = 64,
    rounds: int = 5,
    threads: int = 2,
    device: str = "cpu",
    sizes: Sizes = Sizes(),
    compile: bool = False,
    seed: int = 0,
) -> None:
    """Print the table as Markdown."""
    torch.set_num_threads(threads)
    loops = {
        "the paper's loop": paper_loop(sizes, batch_size, device, seed),
        "cached latents": cached_loop(sizes, batch_size, device, seed, compile),
    }
    taken = in_rounds(loops, (batch_size,), rounds, seed)
    seconds = {name: seconds_a_text(taken[name][batch_size]) for name in loops}
    first = seconds["the paper's loop"]
    rows = [(name, f"{1 / own:.1f}", f"{first / own:.2f}") for name, own in seconds.items()]
    print(markdown_table(("diffusion training", "texts / s", "x"), rows))
    print(f"{machine(torch.device(device))}; batches of {batch_size}, {sizes}; {rounds} rounds", file=sys.stderr)
    cost = (first - seconds["cached latents"]) / seconds["cached latents"]
    print(f"to encode a text once costs about as much as {cost:.1f} texts of training on its latents", file=sys.stderr)


Loop = Callable[[int, int], list[str]]
"""Takes one training step, whatever it is called with; as long as a batch has texts."""


def cached_loop(sizes: Sizes, batch_size: int, device: str, seed: int = 0, compile: bool = False) -> Loop:
    """A step as ``textcosm train`` takes it."""
    config = _config(sizes)
    torch.manual_seed(seed)
    autoencoder = Autoencoder(config.autoencoder, sizes.width, VOCABULARY)
    normaliser = new_normaliser(autoencoder, config.normaliser).to(device)
    denoiser = new_denoiser(config.denoiser, config.schedule, normaliser.shape).to(device)
    latents = torch.randn(4 * batch_size, *normaliser.shape, dtype=torch.float16, device=device)
    return _loop(DiffusionStage(denoiser, config, normaliser, latents, latents[:0], batch_size, seed), seed, compile)


def paper_loop(sizes: Sizes, batch_size: int, device: str, seed: int = 0) -> Loop:
    """A step that first encodes its texts."""
    return _loop(PaperStage(sizes, batch_size, device, seed), seed, compile=False)


def _loop(stage: "DiffusionStage | PaperStage", seed: int, compile: bool) -> Loop:
    config = FitConfig(schedule="constant", clip=1.0, ema=0.9999, weight_decay=0.01, warmup=10, compile=compile)
    state = open_state(stage, config)
    stage.module.train()

    def step(n: int, number: int) -> list[str]:
        advance(stage, config, state, seed)
        if stage.device.type == "cuda":
            torch.cuda.synchronize()
        return [""] * stage.texts_per_step

    return step


class PaperStage:
    """The published loop over random tokens: encoder, standardisation, compressor, normalisation, then the loss."""

    name = "paper"

    def __init__(self, sizes: Sizes, batch_size: int, device: str, seed: int = 0):
        config = _config(sizes)
        torch.manual_seed(seed)
        self.texts_per_step, self.device, self.config = batch_size, torch.device(device), config
        layer = nn.TransformerEncoderLayer(
            sizes.width, sizes.heads, 4 * sizes.width, dropout=0.0, activation="gelu", batch_first=True
        )
        encoder = nn.TransformerEncoder(layer, sizes.encoder_depth, enable_nested_tensor=False)
        autoencoder = Autoencoder(config.autoencoder, sizes.width, VOCABULARY)
        self.embeddings = nn.Embedding(VOCABULARY, sizes.width).to(device)
        self.encoder, self.autoencoder = encoder.to(device).eval(), autoencoder.to(device).eval()
        self.normaliser = new_normaliser(autoencoder, config.normaliser).to(device)
        self.module = new_denoiser(config.denoiser, config.schedule, self.normaliser.shape).to(device)
        self.generator = torch.Generator(device).manual_seed(seed)
        self.tokens = torch.randint(VOCABULARY, (4 * batch_size, sizes.tokens), device=device)

    def loss(self, step: int) -> dict[str, Tensor]:
        """Plain squared error of x_0 at uniform times."""
        rows = torch.randint(len(self.tokens), (self.texts_per_step,), generator=self.generator, device=self.device)
        with torch.no_grad():
            hidden = self.autoencoder.standardise(self.encoder(self.embeddings(self.tokens[rows])).float())
            mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=self.device)
            clean = self.normaliser.normalise(self.autoencoder.compress(hidden, mask).float())
        time = torch.rand(len(clean), generator=self.generator, device=self.device)
        noise = torch.randn(clean.shape, generator=self.generator, device=self.device)
        schedule = self.config.schedule
        noisy = schedule.alpha(time)[:, None, None] * clean + schedule.sigma(time)[:, None, None] * noise
        guess = None
        if step % 2:  # half of the batches, in turn: so few rounds would not have half of them by a coin
            with torch.no_grad():
                guess = self.module(noisy, time).float()
        return {"loss": (self.module(noisy, time, guess).float() - clean).square().mean()}

    def validate(self) -> dict[str, float]:
        """Nothing."""
        return {}


def _config(sizes: Sizes) -> Config:
    autoencoder = AutoencoderConfig(
        num_latents=sizes.slots, max_length=sizes.tokens, compressor_depth=sizes.compressor_depth, decompressor_depth=1,
        heads=sizes.heads, head_width=sizes.width // sizes.heads,
    )  # fmt: skip
    denoiser = DenoiserConfig(sizes.width, sizes.denoiser_depth, sizes.heads, sizes.ff_width)
    return Config(autoencoder=autoencoder, denoiser=denoiser)


if __name__ == "__main__":
    tyro.cli(main)
