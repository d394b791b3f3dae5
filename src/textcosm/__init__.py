"""Text diffusion in a compressed, smooth latent space.

::

        text room                  latent room                        diffusion room
 str -> Tokens -> Activations -> | Latents -> normalised Latents -> | noise <-> denoise
 str <- Tokens <- Logits      <- | Activations <- Latents        <- | normalised Latents

>>> model = TextDiffusion.load("stories-16")
>>> model.sample(4, steps=50, seed=0)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textcosm.config import Config as Config
    from textcosm.diffusion.sampling import SamplerConfig as SamplerConfig
    from textcosm.errors import TextcosmError as TextcosmError
    from textcosm.pipeline import Reconstruction as Reconstruction
    from textcosm.pipeline import Snapshot as Snapshot
    from textcosm.pipeline import TextDiffusion as TextDiffusion
    from textcosm.pipeline import shipped_models as shipped_models
    from textcosm.presets import PRESETS as PRESETS
    from textcosm.text.backbone import open_backbone as open_backbone
    from textcosm.training.recipe import Recipe as Recipe
    from textcosm.training.train import train as train

__version__ = "0.1.0"

_HOMES = {
    "Config": "textcosm.config",
    "PRESETS": "textcosm.presets",
    "Recipe": "textcosm.training.recipe",
    "Reconstruction": "textcosm.pipeline",
    "SamplerConfig": "textcosm.diffusion.sampling",
    "Snapshot": "textcosm.pipeline",
    "TextDiffusion": "textcosm.pipeline",
    "TextcosmError": "textcosm.errors",
    "open_backbone": "textcosm.text.backbone",
    "shipped_models": "textcosm.pipeline",
    "train": "textcosm.training.train",
}
"""Public name -> the module that defines it, imported at first use: ``import textcosm`` itself is instant."""

__all__ = [
    "PRESETS",
    "Config",
    "Recipe",
    "Reconstruction",
    "SamplerConfig",
    "Snapshot",
    "TextDiffusion",
    "TextcosmError",
    "__version__",
    "open_backbone",
    "shipped_models",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
