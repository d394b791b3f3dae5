"""``textcosm info``: what a model is, how it was trained, what was measured."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from torch import nn
from tyro.conf import Positional, arg

from textcosm.checkpoint import read_index
from textcosm.cli.options import parse_and_run
from textcosm.evaluation.results import flat
from textcosm.pipeline import TextDiffusion, find_model


def run(arguments: list[str]) -> None:
    parse_and_run(info, "info", arguments)


def info(
    model: Annotated[
        Positional[str], arg(metavar="MODEL", help="A shipped model by name, or the folder of a model or training run.")
    ] = "stories-16",
    /,
) -> None:
    """Show a model's sizes, statistics, training record and metrics; checks every file on the way."""
    folder = find_model(model)
    rows = list(facts(TextDiffusion.load(model, "cpu"), folder))
    column = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{column}}  {value}")


def facts(model: TextDiffusion, folder: Path) -> Iterator[tuple[str, str]]:
    """Rows of name and value, the most important first."""
    config, sizes = model.config, model.config.autoencoder
    slots, width = model.normaliser.shape
    index = read_index(folder)
    yield "folder", str(folder)
    yield "size on disk", f"{sum(f.stat().st_size for f in folder.iterdir() if f.is_file()) / 1e6:.1f} MB"
    yield "precision", str(index.get("precision"))
    yield (
        "latents",
        f"{slots} of width {width}, for at most {sizes.max_length} tokens ({sizes.max_length / slots:.3g}x)",
    )
    modules = {"autoencoder": model.autoencoder, "denoiser": model.denoiser}
    for name, module in modules.items():
        yield f"{name} parameters", f"{parameters(module) / 1e6:.2f} M"
    yield "text encoder", f"{config.backbone.name}, layer {config.backbone.layer} ({model.backbone_fingerprint})"
    yield "vocabulary", f"{model.tokenizer.vocab_size:,} tokens"
    yield "latent mean", _range(model.normaliser.mean)
    yield "latent standard deviation", _range(model.normaliser.std)
    if config.denoiser.source_depth:
        yield "source", f"{config.denoiser.source_depth} layers read {config.source.limit}"
    sampler = config.sampler
    yield "sampler", f"{sampler.solver}, {sampler.steps} steps to time {sampler.end_time}, final {sampler.final}"
    if model.ngrams is not None:
        runs = f"{len(model.ngrams.bigrams.keys):,} of two tokens, {len(model.ngrams.trigrams.keys):,} of three"
        yield "n-grams", f"{runs}; lm weight {sampler.lm_weight:g}"
    for name, value in flat(model.record):
        if name != "data.lengths":  # a histogram to draw from
            yield name, f"{value:.6g}" if isinstance(value, float) else str(value)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _range(tensor: Any) -> str:
    return f"{tensor.min():.3g} to {tensor.max():.3g}, mean {tensor.mean():.3g}"
