"""Train a rival on the same tokens, with the same loop, journal, averages and exact continuation as our own model.

::

    OUT/cache/  tokens, made once (or another run's cache, with the same backbone, length and data settings)
    OUT/rival/  state.safetensors journal.jsonl settings.json
    OUT/model/  what ``textcosm.baselines.open_rival`` reads
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from textcosm.baselines.autoregressive import Autoregressive
from textcosm.baselines.masked import Masked
from textcosm.baselines.rival import Rival, count_forms, new_network
from textcosm.baselines.settings import Kind, RivalConfig, RivalSampler, check_kind
from textcosm.baselines.tokens import Vocabulary
from textcosm.config import Config
from textcosm.latent.autoencoder import AutoencoderConfig
from textcosm.pipeline import best_device
from textcosm.tasks.files import DataConfig
from textcosm.text.backbone import BackboneConfig, open_backbone
from textcosm.training.cache import Stopped, TextStore
from textcosm.training.corpus import make_texts, text_settings
from textcosm.training.export import data_record, made_with, reached
from textcosm.training.fit import FitConfig, StepReport, seed_of
from textcosm.training.recipe import Recipe, fit_settings
from textcosm.training.run import Run, claim, fit_stage, seeded, stop_requests
from textcosm.training.stages import Batches
from textcosm.training.state import load_trained
from textcosm.training.train import TrainResult, counts

VALID_AT_ONCE = 32
"""Texts per validation batch."""

# As the stories-16 denoiser is trained, but on a quarter of the texts a step: each holds three to five times as many
# predictions. On two CPU cores these steps take about as long as both stages of stories-16 together.
RIVAL_FIT = FitConfig(
    steps=4000, batch_size=16, learning_rate=1e-3, final_learning_rate=2e-5, warmup=100, weight_decay=0.01, clip=1.0,
    ema=0.99, log_every=20, valid_every=1000,
)  # fmt: skip


@dataclass(frozen=True)
class RivalRecipe:
    """What ``train_rival`` makes. Backbone, length and data settings as stories-16's, so that its cache serves."""

    kind: Kind = "autoregressive"
    backbone: BackboneConfig = field(default_factory=lambda: BackboneConfig("all-MiniLM-L6-v2", layer=4))
    """Only its tokenizer is used."""
    model: RivalConfig = field(default_factory=RivalConfig)
    data: DataConfig = field(default_factory=DataConfig)
    training: FitConfig = RIVAL_FIT
    sampler: RivalSampler = field(default_factory=RivalSampler)
    seed: int = 0

    def __post_init__(self) -> None:
        check_kind(self.kind)


def train_rival(
    recipe: RivalRecipe,
    data: str | Path,
    out: str | Path,
    *,
    report: Callable[[StepReport], None] = lambda step: None,
    max_seconds: float | None = None,
    device: str | torch.device | None = None,
    cache: str | Path | None = None,
    tensorboard: bool = False,
) -> TrainResult:
    """Train a rival on the texts of ``data`` and leave it in ``out/model``; the same call goes on where one stopped.

    cache: may be that of another run, such as ``textcosm train``'s, on the same data.
    max_seconds: stop after so long; then, and at SIGINT or SIGTERM, the rival is written as far as it is trained.

    Raises TrainingError, DataError, BackboneError, ConfigError.
    """
    target = torch.device(device) if device is not None else best_device()
    out = Path(out).expanduser()
    with stop_requests(max_seconds) as stop:
        backbone = open_backbone(recipe.backbone, "cpu")
        caches = Path(cache).expanduser() if cache else out / "cache"
        run = Run(_corpus_recipe(recipe), str(data), out, caches, backbone, target, stop, tensorboard)
        finished = False
        try:
            for step in _everything(recipe, run):
                report(step)
            finished = True
        except Stopped:
            pass
    texts, cut = counts(run)
    model = out / "model"
    return TrainResult(finished, out, model if model.is_dir() else None, texts, cut)


def _corpus_recipe(recipe: RivalRecipe) -> Recipe:
    """What the corpus depends on, as our own model's recipe says it: that is what lets the two share a cache."""
    length = recipe.model.max_length
    autoencoder = AutoencoderConfig(num_latents=min(16, length), max_length=length)
    return Recipe(Config(recipe.backbone, autoencoder), recipe.data, seed=recipe.seed)


def _everything(recipe: RivalRecipe, run: Run) -> Iterator[StepReport]:
    train_texts, valid_texts = yield from make_texts(run)
    vocabulary = Vocabulary.of(train_texts.tokens, run.backbone.tokenizer.special)
    with seeded(run, recipe.kind):
        network = new_network(recipe.kind, recipe.model, vocabulary).to(run.device)
    folder = run.out / "rival"
    claim(folder, _settings(recipe, run))
    stage = RivalStage(network, train_texts, valid_texts, recipe.training.batch_size, recipe.seed)
    try:
        yield from fit_stage(run, stage, recipe.training, folder)
    except Stopped:
        _export(recipe, run, network, train_texts)
        raise
    _export(recipe, run, network, train_texts)


def _settings(recipe: RivalRecipe, run: Run) -> dict[str, Any]:
    return {
        "texts": text_settings(run, "train"),
        "kind": recipe.kind,
        "model": asdict(recipe.model),
        "training": fit_settings(recipe.training),
        "seed": recipe.seed,
    }


class RivalStage:
    """Texts of about one length a step; the loss is the network's own."""

    def __init__(
        self, network: Autoregressive | Masked, train: TextStore, valid: TextStore, batch_size: int, seed: int = 0
    ):
        self.name, self.module, self.train, self.valid = network.kind, network, train, valid
        self.seed = seed
        self.batches = Batches(train.lengths, batch_size, seed, self.name)
        self.texts_per_step = self.batches.size
        self.generator = torch.Generator()

    def loss(self, step: int) -> dict[str, Tensor]:
        """Nats per token (the masked rival: a bound on them) of the ``step``-th batch."""
        self.generator.manual_seed(seed_of(self.seed, self.name, "noise", step))
        return self._losses(self.train, self.batches.indices(step))

    def validate(self) -> dict[str, float]:
        """The same on held-out texts, with the same noise at each validation; tokens never seen are left out."""
        self.generator.manual_seed(seed_of(self.seed, self.name, "valid"))
        total, tokens = 0.0, 0
        for indices in torch.arange(len(self.valid)).split(VALID_AT_ONCE):
            count = int((self.valid.lengths[indices] - 1).sum())
            total += float(self._losses(self.valid, indices)["loss"]) * count
            tokens += count
        return {"loss": total / tokens} if tokens else {}

    def _losses(self, store: TextStore, indices: Sequence[int] | Tensor) -> dict[str, Tensor]:
        batch = store.batch(indices, self.module.embeddings.device)
        tokens = self.module.vocabulary.shrink(batch.tokens)
        return self.module.losses(tokens, batch.mask, self.generator)


# --- what a run leaves behind


def _export(recipe: RivalRecipe, run: Run, network: Autoregressive | Masked, texts: TextStore) -> None:
    """Write ``OUT/model`` as far as the network is trained; an earlier one is replaced."""
    load_trained(network, run.out / "rival")
    vocabulary = network.vocabulary
    tokens, preceding, forms = texts.neighbours()
    head = count_forms(vocabulary, vocabulary.shrink(tokens), vocabulary.shrink(preceding), forms)
    record = _record(recipe, run, texts)
    Rival(network, head, run.backbone.tokenizer, recipe.sampler, record).save(run.out / "model")


def _record(recipe: RivalRecipe, run: Run, texts: TextStore) -> dict[str, Any]:
    return {
        "data": data_record(run, texts),
        "recipe": {"data": asdict(recipe.data), "training": asdict(recipe.training), "seed": recipe.seed},
        recipe.kind: reached(run.out / "rival"),
        **made_with(run),
    }
