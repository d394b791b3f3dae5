"""``textcosm presets``: the recipes by name."""

from textcosm.cli.options import parse_and_run
from textcosm.presets import PRESETS
from textcosm.training.recipe import Recipe


def run(arguments: list[str]) -> None:
    parse_and_run(presets, "presets", arguments)


def presets() -> None:
    """List the training recipes that --preset names. All settings of one: textcosm train --preset NAME --help."""
    for name, row in PRESETS.items():
        print(f"{name:<22}{row.sentence}\n{'':<22}{figures(row.recipe)}")


def figures(recipe: Recipe) -> str:
    """The numbers that tell recipes apart, in a line."""
    model, autoencoder, diffusion = recipe.model, recipe.autoencoder_training, recipe.diffusion_training
    sizes = model.autoencoder
    depth = model.denoiser.source_depth
    return (
        f"{model.backbone.name} layer {model.backbone.layer}, "
        f"{sizes.max_length} tokens in {sizes.num_latents} latents{f', a source of {model.source.limit}' if depth else ''}, "
        f"{sizes.compressor_depth}+{sizes.decompressor_depth} and {model.denoiser.depth} layers{f' and {depth} for the source' if depth else ''}; "
        f"{autoencoder.steps:,}x{autoencoder.batch_size} and {diffusion.steps:,}x{diffusion.batch_size} texts, "
        f"{' and '.join(dict.fromkeys([autoencoder.optimizer, diffusion.optimizer]))}"
    )
