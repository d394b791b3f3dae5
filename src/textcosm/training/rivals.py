"""Train a rival on the same tokens, with the same loop, journal, averages and exact continuation as our own model.

::

    OUT/cache/  tokens, made once (or another run's cache, with the same backbone, length and data settings)
    OUT/rival/  state.safetensors journal.jsonl settings.json
    OUT/model/  what ``textcosm.baselines.open_rival`` reads
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from textcosm.baselines.encoder_decoder import EncoderDecoder
from textcosm.baselines.rival import AnyNetwork, Rival, count_forms, new_network
from textcosm.baselines.settings import OF_PAIRS, Kind, RivalConfig, RivalSampler, check_kind
from textcosm.baselines.tokens import Sources, Vocabulary
from textcosm.config import Config
from textcosm.diffusion.denoiser import SourceConfig
from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import AutoencoderConfig
from textcosm.tasks.files import DataConfig
from textcosm.text.backbone import BackboneConfig
from textcosm.training.cache import Stopped, TextStore
from textcosm.training.corpus import make_sources, make_texts, source_settings, text_settings
from textcosm.training.export import data_record, made_with, reached
from textcosm.training.fit import FitConfig, StepReport, seed_of
from textcosm.training.recipe import Recipe, fit_settings
from textcosm.training.run import Run, RunOptions, TrainResult, claim, conduct, fit_stage, seeded
from textcosm.training.stages import Batches
from textcosm.training.state import load_trained

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
    """What ``train_rival`` makes. Backbone, length and data settings as stories-16's, so that its cache serves.

    :func:`default_recipe` gives the sizes at which a kind has as many parameters as our own model.
    """

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


def default_recipe(kind: Kind) -> RivalRecipe:
    """As many parameters, token embeddings aside, as stories-16's denoiser; with sources, as detox-16's and its source
    encoder (24 million; a feed-forward block is of two matrices where ours has three: hence its width)."""
    if kind != "encoder-decoder":
        return RivalRecipe(kind)
    training = replace(RIVAL_FIT, batch_size=32, warmup=200, ema=0.997)
    return RivalRecipe(kind, model=RivalConfig(ff_width=1856), training=training, sampler=RivalSampler(beams=4))


def train_rival(recipe: RivalRecipe, data: str | Path, out: str | Path, **options: Unpack[RunOptions]) -> TrainResult:
    """Train a rival on the texts of ``data`` and leave it in ``out/model``; the same call goes on where one stopped.

    Where it is stopped, the rival is written as far as it is trained. The encoder-decoder needs pairs (``recipe.data``);
    the other kinds learn the texts of pairs without their sources.

    Raises TrainingError, DataError, BackboneError, ConfigError.
    """
    if recipe.kind == "encoder-decoder" and not recipe.data.is_paired:
        raise ConfigError(
            "the encoder-decoder rival answers sources, but the data is texts alone; give --task NAME or fields of pairs"
        )
    return conduct(partial(_everything, recipe), _corpus_recipe(recipe), data, out, encodes=False, **options)


def _corpus_recipe(recipe: RivalRecipe) -> Recipe:
    """What the corpus depends on, as our own model's recipe says it: that is what lets the two share a cache."""
    length = recipe.model.max_length
    autoencoder = AutoencoderConfig(num_latents=min(16, length), max_length=length)
    model = Config(recipe.backbone, autoencoder, source=SourceConfig(recipe.model.source_length, recipe.model.context_words))
    return Recipe(model, recipe.data, seed=recipe.seed)


def _everything(recipe: RivalRecipe, run: Run) -> Iterator[StepReport]:
    texts = yield from make_texts(run)
    sources = (yield from make_sources(run)) if recipe.kind == "encoder-decoder" else None
    stores = [texts[0]] if sources is None else [texts[0], sources[0]]
    vocabulary = Vocabulary.of(torch.cat([store.tokens for store in stores]), run.backbone.tokenizer.special)
    with seeded(run, recipe.kind):
        network = new_network(recipe.kind, recipe.model, vocabulary).to(run.device)
    folder = run.out / "rival"
    claim(folder, _settings(recipe, run))
    stage = RivalStage(network, *texts, recipe.training.batch_size, recipe.seed, sources)
    try:
        yield from fit_stage(run, stage, recipe.training, folder)
    except Stopped:
        _export(recipe, run, network, stores)
        raise
    _export(recipe, run, network, stores)


def _settings(recipe: RivalRecipe, run: Run) -> dict[str, Any]:
    """What only the encoder-decoder has is left out elsewhere, and what it had not yet: runs from before go on."""
    model = {name: value for name, value in asdict(recipe.model).items() if value is not None}
    settings: dict[str, Any] = {
        "texts": text_settings(run, "train"),
        "kind": recipe.kind,
        "model": model,
        "training": fit_settings(recipe.training),
        "seed": recipe.seed,
    }
    if recipe.kind == "encoder-decoder":
        settings["sources"] = source_settings(run, "train")
    else:
        settings["model"] = {name: value for name, value in model.items() if name not in OF_PAIRS}
    return settings


class RivalStage:
    """Texts of about one length a step (with their sources); the loss is the network's own."""

    def __init__(
        self,
        network: AnyNetwork,
        train: TextStore,
        valid: TextStore,
        batch_size: int,
        seed: int = 0,
        sources: tuple[TextStore, TextStore] | None = None,
    ):
        """``sources``: of the training and of the validation texts, row i of text i."""
        self.name, self.module, self.train, self.valid = network.kind, network, train, valid
        self.train_sources, self.valid_sources = sources or (None, None)
        self.seed = seed
        lengths = train.lengths if sources is None else train.lengths + sources[0].lengths
        self.batches = Batches(lengths, batch_size, seed, self.name)
        self.texts_per_step = self.batches.size
        self.generator = torch.Generator()

    def loss(self, step: int) -> dict[str, Tensor]:
        """Nats per token (the masked rival: a bound on them) of the ``step``-th batch."""
        self.generator.manual_seed(seed_of(self.seed, self.name, "noise", step))
        return self._losses(self.train, self.train_sources, self.batches.indices(step))

    def validate(self) -> dict[str, float]:
        """The same on held-out texts, with the same noise at each validation; tokens never seen are left out."""
        self.generator.manual_seed(seed_of(self.seed, self.name, "valid"))
        total, tokens = 0.0, 0
        for indices in torch.arange(len(self.valid)).split(VALID_AT_ONCE):
            count = int((self.valid.lengths[indices] - 1).sum())
            total += float(self._losses(self.valid, self.valid_sources, indices)["loss"]) * count
            tokens += count
        return {"loss": total / tokens} if tokens else {}

    def _losses(
        self, texts: TextStore, sources: TextStore | None, indices: Sequence[int] | Tensor
    ) -> dict[str, Tensor]:
        network, device = self.module, self.module.embeddings.device
        batch = texts.batch(indices, device)
        tokens = network.vocabulary.shrink(batch.tokens)
        if sources is None or not isinstance(network, EncoderDecoder):
            return network.losses(tokens, batch.mask, self.generator)
        source = sources.batch(indices, device)
        read = Sources(network.vocabulary.shrink(source.tokens), source.mask)
        return network.losses(tokens, batch.mask, self.generator, read)


# --- what a run leaves behind


def _export(recipe: RivalRecipe, run: Run, network: AnyNetwork, stores: Sequence[TextStore]) -> None:
    """Write ``OUT/model`` as far as the network is trained; an earlier one is replaced."""
    load_trained(network, run.out / "rival")
    head = count_forms(network.vocabulary, *_written(network.vocabulary, stores))
    record = _record(recipe, run, stores)
    Rival(network, head, run.backbone.tokenizer, recipe.sampler, record).save(run.out / "model")


def _written(vocabulary: Vocabulary, stores: Sequence[TextStore]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, the token before each and their forms, in the texts; of sources those that no text has, such as names."""
    seen = torch.zeros(len(vocabulary), dtype=torch.bool)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for store in stores:
        tokens, preceding, forms = store.neighbours()
        tokens, preceding = vocabulary.shrink(tokens), vocabulary.shrink(preceding)
        new = ~seen[tokens]
        parts.append((tokens[new], preceding[new], forms[new]))
        seen[tokens] = True
    tokens, preceding, forms = (torch.cat(column) for column in zip(*parts, strict=True))
    return tokens, preceding, forms


def _record(recipe: RivalRecipe, run: Run, stores: Sequence[TextStore]) -> dict[str, Any]:
    data = data_record(run, stores[0])
    if len(stores) > 1:
        data["sources_cut"] = stores[1].cut
    return {
        "data": data,
        "recipe": {"data": asdict(recipe.data), "training": asdict(recipe.training), "seed": recipe.seed},
        recipe.kind: reached(run.out / "rival"),
        **made_with(run.device),
    }
