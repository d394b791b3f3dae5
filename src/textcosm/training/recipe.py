"""A recipe: a model's settings and all that its training needs to know, in one frozen tree."""

from dataclasses import asdict, dataclass, field
from typing import Any

from textcosm.config import Config
from textcosm.errors import ConfigError
from textcosm.tasks.files import DataConfig
from textcosm.training.fit import FitConfig
from textcosm.training.stages import AdaptationConfig

FREE = ("checkpoint_seconds", "log_every", "valid_every")
"""Fit settings that change no loss: a run may go on with other ones."""


@dataclass(frozen=True)
class Recipe:
    """What ``train`` makes; two equal recipes on the same data make the same model."""

    model: Config = field(default_factory=Config)
    data: DataConfig = field(default_factory=DataConfig)
    autoencoder_training: FitConfig = field(default_factory=FitConfig)
    diffusion_training: FitConfig = field(
        default_factory=lambda: FitConfig(steps=200_000, schedule="constant", clip=1.0, ema=0.9999, weight_decay=0.01)
    )
    adapt_decoder: bool = False
    """A third stage after diffusion: train the decoder on the denoiser's own guesses (not in the paper)."""
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    adaptation_training: FitConfig = field(
        default_factory=lambda: FitConfig(steps=10_000, warmup=100, final_learning_rate=1e-5)
    )
    seed: int = 0
    cache_activations: bool = True
    """Encode the corpus once and keep its activations on disk (2 bytes a number); False encodes again at each step."""
    init_autoencoder: str | None = None
    """A trained run or model whose autoencoder is taken as it is, so that only diffusion is trained."""
    autoencoder_data: str | None = None
    """A second corpus, of plain texts (of the same text field), that the autoencoder alone learns from."""

    def __post_init__(self) -> None:
        earliest, latest = self.model.diffusion_objective.min_time, self.adaptation.max_time
        if self.adapt_decoder and latest <= earliest:
            raise ConfigError(
                f"adaptation.max_time is {latest}, not above model.diffusion_objective.min_time {earliest}; raise it"
            )


def fit_settings(config: FitConfig) -> dict[str, Any]:
    """The settings that a continued stage must share; a constant schedule may be prolonged."""
    free = {*FREE, "steps"} if config.schedule == "constant" else set(FREE)
    return {name: value for name, value in asdict(config).items() if name not in free}
