"""From a file of texts to a model: tokens -> activations -> autoencoder -> latents -> diffusion (-> decoder) -> OUT/model.

::

    OUT/cache/        tokens and activations, made once
    OUT/autoencoder/  state.safetensors journal.jsonl settings.json
    OUT/latents/      of that autoencoder, made once
    OUT/diffusion/    state.safetensors journal.jsonl settings.json
    OUT/adaptation/   the same, where the recipe adapts the decoder to the denoiser
    OUT/model/        what TextDiffusion.load reads
"""

import json
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, Unpack, get_args

import torch
from torch import Tensor

from textcosm.diffusion.denoiser import Denoiser, new_denoiser
from textcosm.diffusion.linear import LinearGuess
from textcosm.errors import BackboneError, ConfigError, TrainingError
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.initialise import initialise_locally
from textcosm.latent.normaliser import new_normaliser
from textcosm.pipeline import TextDiffusion
from textcosm.tasks.task import SPLITS
from textcosm.training.cache import TextStore, read_meta
from textcosm.training.corpus import (
    LatentStore,
    cache_activations,
    encoded,
    make_latents,
    make_source_latents,
    make_sources,
    make_texts,
    source_settings,
    text_settings,
)
from textcosm.training.export import export_model
from textcosm.training.fit import StepReport, seed_of
from textcosm.training.recipe import Recipe, fit_settings
from textcosm.training.run import Run, RunOptions, TrainResult, claim, conduct, fit_stage, has_room, is_done, seeded
from textcosm.training.stages import AdaptationStage, AutoencoderStage, DiffusionStage, Sources
from textcosm.training.state import STATE_FILE, load_trained

Splits = tuple[Sources | None, Sources | None]
"""The sources of the training and of the validation texts, where these answer any."""
StageName = Literal["autoencoder", "diffusion", "adaptation", "export"]
STATISTICS_TEXTS = 2048
"""Texts that give the activations' mean and std, and the local initialisation: some 100,000 tokens."""
VARIANCE_FLOOR = 1e-4
LINEAR_TEXTS = 20_000
"""Texts that give the covariance of the denoiser's linear guess."""
COMPILED_MULTIPLE = 16
"""Compiled blocks see lengths that are multiples of this: few shapes, few compilations."""


def train(
    recipe: Recipe, data: str | Path, out: str | Path, stage: StageName | None = None, **options: Unpack[RunOptions]
) -> TrainResult:
    """Train on the texts of ``data`` and leave a model in ``out/model``; the same call continues where one stopped.

    stage: None for all; "autoencoder" or "diffusion" for one of them; "export" writes the model from what is there.

    Raises TrainingError (other settings in the same folder, a loss that is not a number), DataError, BackboneError.
    """
    if stage is not None and stage not in get_args(StageName):
        raise ConfigError(
            f"stage {stage!r} is unknown; choose one of {', '.join(get_args(StageName))}, or none for all"
        )
    if recipe.init_autoencoder and stage == "autoencoder":
        raise ConfigError("stage is autoencoder, but init_autoencoder takes a trained one; leave one of them out")
    return conduct(lambda run: _everything(run, stage), recipe, data, out, **options)


def _everything(run: Run, stage: StageName | None) -> Iterator[StepReport]:
    _check_sources(run)
    train_texts, valid_texts = yield from make_texts(run)
    sources = (yield from _make_sources(run, train_texts)) if run.recipe.data.is_paired else (None, None)
    if stage in (None, "autoencoder") and not run.recipe.init_autoencoder:
        yield from _train_autoencoder(run, train_texts, valid_texts)
    if stage == "autoencoder":
        return
    autoencoder = _trained_autoencoder(run)
    latents = yield from make_latents(run, autoencoder, train_texts, valid_texts)
    if run.recipe.model.denoiser.source_latents:
        sources = yield from _with_latents(run, sources, autoencoder, latents)
    denoiser = _new_denoiser(run, latents.normaliser.shape, autoencoder)
    if stage in (None, "diffusion"):
        yield from _train_diffusion(run, denoiser, latents, sources)
    if run.recipe.adapt_decoder:
        if stage in (None, "adaptation"):
            yield from _adapt_decoder(run, autoencoder, denoiser, latents, train_texts, valid_texts, sources)
        if (run.out / "adaptation" / STATE_FILE).exists():
            load_trained(autoencoder, run.out / "adaptation")
    export_model(run, autoencoder, latents.normaliser, denoiser, train_texts, sources[0])


def _check_sources(run: Run) -> None:
    """Whether the model reads sources just where the data has them, and no longer ones than the encoder can."""
    data, model, backbone = run.recipe.data, run.recipe.model, run.backbone
    depth = model.denoiser.source_depth
    if data.is_paired and not depth:
        raise ConfigError("the texts answer sources, but model.denoiser.source_depth = 0 reads none; give 1 or more")
    if depth and not data.is_paired:
        raise ConfigError(
            f"model.denoiser.source_depth = {depth} reads sources, but the data is texts alone; give --task NAME or fields "
            "of pairs, or source_depth 0"
        )
    if depth and model.source.max_length > backbone.max_tokens:
        raise ConfigError(
            f"model.source.max_length = {model.source.max_length}, but {backbone.name} reads {backbone.max_tokens} tokens "
            "at most; lower it"
        )


def _make_sources(run: Run, texts: TextStore) -> Generator[StepReport, None, Splits]:
    stores = yield from make_sources(run)
    if len(stores[0]) != texts.main:
        raise TrainingError(f"{run.cache} holds {len(stores[0])} sources and {texts.main} texts; delete it to start again")
    multiple = COMPILED_MULTIPLE if run.recipe.diffusion_training.compile else 1
    train, valid = (Sources(store, run.backbone, multiple, run.recipe.model.source.max_length) for store in stores)
    return train, valid


def _with_latents(
    run: Run, sources: Splits, autoencoder: Autoencoder, latents: LatentStore
) -> Generator[StepReport, None, Splits]:
    parts = [part for part in sources if part is not None]
    made = yield from make_source_latents(run, autoencoder, latents.normaliser, [part.store for part in parts])
    train, valid = (replace(part, latents=rows) for part, rows in zip(parts, made, strict=True))
    return train, valid


# --- the autoencoder


def _train_autoencoder(run: Run, train_texts: TextStore, valid_texts: TextStore) -> Iterator[StepReport]:
    recipe, folder = run.recipe, run.out / "autoencoder"
    config = recipe.autoencoder_training
    claim(folder, _autoencoder_settings(run))
    if is_done(folder, config):
        return
    if recipe.cache_activations:
        for split, store in (("valid", valid_texts), ("train", train_texts)):
            yield from cache_activations(run, store, split, text_settings(run, split))
    autoencoder = _new_autoencoder(run)
    if not (folder / STATE_FILE).exists():
        _initialise(run, autoencoder, train_texts)
    multiple = COMPILED_MULTIPLE if config.compile else 1
    stage = AutoencoderStage(
        autoencoder.to(run.device),
        recipe.model,
        run.backbone,
        _resident(train_texts, run.device),
        valid_texts,
        config.batch_size,
        recipe.seed,
        multiple,
    )
    yield from fit_stage(run, stage, config, folder)


def _autoencoder_settings(run: Run) -> dict[str, Any]:
    model = asdict(run.recipe.model)
    return {
        "texts": text_settings(run, "train"),
        "model": {name: model[name] for name in ("autoencoder", "perturbation", "autoencoder_objective")},
        "autoencoder_training": fit_settings(run.recipe.autoencoder_training),
        "cache_activations": run.recipe.cache_activations,
        "seed": run.recipe.seed,
    }


def _new_autoencoder(run: Run) -> Autoencoder:
    with seeded(run, "autoencoder"):
        autoencoder = Autoencoder(run.recipe.model.autoencoder, run.backbone.width, run.backbone.vocab_size)
    model = run.recipe.model
    with torch.device("meta"):  # sizes that do not fit are refused before the long work
        new_denoiser(model.denoiser, model.schedule, new_normaliser(autoencoder, model.normaliser).shape, run.backbone.width)
    return autoencoder


def _initialise(run: Run, autoencoder: Autoencoder, texts: TextStore) -> None:
    """Statistics of the activations, and the start that the config asks for."""
    generator = torch.Generator().manual_seed(seed_of(run.recipe.seed, "initialise"))
    chosen = torch.randperm(len(texts), generator=generator)[:STATISTICS_TEXTS]
    batch, hidden = encoded(run, texts, chosen)
    real = hidden[batch.mask].double()
    std = real.var(0, correction=0).clamp_min(VARIANCE_FLOOR).sqrt()
    embeddings = run.backbone.embeddings().cpu()
    mask_embedding = embeddings[run.backbone.tokenizer.mask_id]
    autoencoder.set_statistics(real.mean(0).float(), std.float(), mask_embedding)
    if run.recipe.model.autoencoder.init == "local":
        initialise_locally(
            autoencoder, autoencoder.standardise(hidden), batch.mask, batch.tokens, embeddings, generator
        )


def _trained_autoencoder(run: Run) -> Autoencoder:
    """The autoencoder of this run, or of the run or model that the recipe takes it from."""
    autoencoder = _new_autoencoder(run)
    source = None if run.recipe.init_autoencoder is None else Path(run.recipe.init_autoencoder).expanduser()
    if source is None:
        folder = run.out / "autoencoder"
        if (folder / STATE_FILE).exists():
            claim(folder, _autoencoder_settings(run))
        load_trained(autoencoder, folder)
    elif (source / "autoencoder" / STATE_FILE).exists():
        folder = source / "autoencoder"
        _check_backbone(run, json.loads((folder / "settings.json").read_text())["texts"]["backbone"], source)
        load_trained(autoencoder, folder)
    else:
        other = TextDiffusion.load(source, "cpu")
        _check_backbone(run, other.backbone_fingerprint, source)
        if other.config.autoencoder != run.recipe.model.autoencoder:
            raise TrainingError(
                f"the autoencoder of {source} has other sizes than model.autoencoder; give equal settings"
            )
        autoencoder.load_state_dict(other.autoencoder.state_dict())
    return autoencoder.to(run.device).eval().requires_grad_(False)


def _check_backbone(run: Run, fingerprint: str, source: Path) -> None:
    if fingerprint != run.backbone.fingerprint:
        raise BackboneError(
            f"the autoencoder of {source} reads an encoder {fingerprint}, this recipe's is {run.backbone.fingerprint}; "
            "give the same model.backbone"
        )


def _resident(store: TextStore, device: torch.device) -> TextStore:
    """Keep the texts on a GPU that has room for them."""
    size = 0 if store.activations is None else store.activations.nbytes
    return store.to(device) if has_room(device, size) else store


# --- diffusion


def _new_denoiser(run: Run, shape: tuple[int, int], autoencoder: Autoencoder) -> Denoiser:
    model = run.recipe.model
    with seeded(run, "denoiser"):
        denoiser = new_denoiser(model.denoiser, model.schedule, shape, run.backbone.width).to(run.device)
    if denoiser.source is not None:
        denoiser.source.set_statistics(autoencoder.activation_mean, autoencoder.activation_std)
    return denoiser


def _train_diffusion(run: Run, denoiser: Denoiser, latents: LatentStore, sources: Splits) -> Iterator[StepReport]:
    recipe, folder = run.recipe, run.out / "diffusion"
    claim(folder, _diffusion_settings(run))
    if not is_done(folder, recipe.diffusion_training):
        yield from _cache_sources(run, sources)
    if denoiser.linear is not None and not (folder / STATE_FILE).exists():
        yield from _fit_linear_guess(run, denoiser.linear, latents, sources[0])
    config = recipe.diffusion_training
    stage = DiffusionStage(
        denoiser, recipe.model, latents.normaliser, latents.train, latents.valid, config.batch_size, recipe.seed, *sources
    )
    yield from fit_stage(run, stage, config, folder)


def _diffusion_settings(run: Run) -> dict[str, Any]:
    """What was added later is left out where it is off: runs from before it go on."""
    recipe, model = run.recipe, asdict(run.recipe.model)
    parts = ["schedule", "denoiser", "diffusion_objective"]
    if recipe.model.normaliser.pca_width:
        parts.append("normaliser")
    settings: dict[str, Any] = {
        "latents": read_meta(run.out / "latents" / "train")["settings"],
        "model": {name: model[name] for name in parts},
        "diffusion_training": fit_settings(recipe.diffusion_training),
        "seed": recipe.seed,
    }
    if recipe.data.is_paired:
        settings["sources"] = source_settings(run, "train")
    else:
        del model["diffusion_objective"]["source_drop_probability"]
    if not recipe.model.denoiser.source_latents:
        del model["denoiser"]["source_latents"]
    if not recipe.model.diffusion_objective.self_guidance:
        del model["diffusion_objective"]["self_guidance"]
    return settings


def _cache_sources(run: Run, sources: Splits) -> Iterator[StepReport]:
    """Encode the sources once, or leave it to each step; a GPU with room for them keeps them."""
    for split, part in zip(SPLITS, sources, strict=True):
        if part is not None and run.recipe.cache_activations:
            yield from cache_activations(run, part.store, f"{split}-sources", source_settings(run, split))
        if part is not None:
            _resident(part.store, run.device)


def _fit_linear_guess(
    run: Run, linear: LinearGuess, latents: LatentStore, sources: Sources | None
) -> Iterator[StepReport]:
    """A minute or more without steps: reported before and after."""
    start = time.monotonic()
    parts = latents.train[:LINEAR_TEXTS].split(1024)
    count = sum(map(len, parts))
    yield StepReport(0, count, "linear guess", {}, 0.0, 0.0)
    generator = torch.Generator().manual_seed(seed_of(run.recipe.seed, "linear"))
    normalise = latents.normaliser.normalise

    def clean() -> Iterator[Tensor]:
        return (normalise(part.to(run.device).float()) for part in parts)

    linear.fit(clean, generator)
    if sources is not None and sources.latents is not None:
        linear.fit_sources(zip(clean(), sources.latents[:count].split(1024), strict=True))
    yield StepReport(count, count, "linear guess", {}, count / (time.monotonic() - start), 0.0)


# --- the decoder, once more


def _adapt_decoder(
    run: Run,
    autoencoder: Autoencoder,
    denoiser: Denoiser,
    latents: LatentStore,
    train_texts: TextStore,
    valid_texts: TextStore,
    sources: Splits,
) -> Iterator[StepReport]:
    recipe, folder = run.recipe, run.out / "adaptation"
    config = recipe.adaptation_training
    reached = load_trained(denoiser, run.out / "diffusion")  # the averaged weights, as sampling uses them
    claim(
        folder,
        {
            "diffusion": {**json.loads((run.out / "diffusion" / "settings.json").read_text()), "step": reached["steps"]},
            "model": {"autoencoder_objective": asdict(recipe.model.autoencoder_objective)},
            "adaptation": asdict(recipe.adaptation),
            "adaptation_training": fit_settings(config),
        },
    )
    if is_done(folder, config):
        return
    yield from _cache_sources(run, sources)
    stage = AdaptationStage(
        autoencoder.requires_grad_(True),
        denoiser.eval().requires_grad_(False),
        latents.normaliser,
        recipe.model,
        recipe.adaptation,
        run.backbone,
        _resident(train_texts, run.device),
        valid_texts,
        latents.train,
        latents.valid,
        config.batch_size,
        recipe.seed,
        *sources,
    )
    yield from fit_stage(run, stage, config, folder)
