"""From a file of texts to a model: tokens -> activations -> autoencoder -> latents -> diffusion -> OUT/model.

::

    OUT/cache/        tokens and activations, made once
    OUT/autoencoder/  state.safetensors journal.jsonl settings.json
    OUT/latents/      of that autoencoder, made once
    OUT/diffusion/    state.safetensors journal.jsonl settings.json
    OUT/model/        what TextDiffusion.load reads
"""

import hashlib
import json
import platform
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

import textcosm
from textcosm.diffusion.denoiser import Denoiser
from textcosm.errors import BackboneError, ConfigError, DataError, TrainingError
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.initialise import initialise_locally
from textcosm.latent.normaliser import Normaliser
from textcosm.pipeline import TextDiffusion, best_device
from textcosm.tasks import open_task
from textcosm.tasks.task import SPLITS
from textcosm.text.backbone import Backbone, open_backbone
from textcosm.training.cache import (
    Stopped,
    TextBatch,
    TextStore,
    check_settings,
    is_made,
    open_rows,
    read_meta,
    write_rows,
    write_texts,
)
from textcosm.training.fit import FitConfig, Stage, StepReport, fit, seed_of
from textcosm.training.journal import read_journal
from textcosm.training.recipe import Recipe, fit_settings
from textcosm.training.stages import AutoencoderStage, DiffusionStage, activations_of
from textcosm.training.state import STATE_FILE, load_trained, read_tensors, write_tensors

StageName = Literal["autoencoder", "diffusion", "export"]
VALID_TEXTS = 512
"""Held-out texts that a validation measures, at most."""
ENCODE_AT_ONCE = 64
"""Texts per call of the frozen encoder."""
STATISTICS_TEXTS = 2048
"""Texts that give the activations' mean and std, and the local initialisation: some 100,000 tokens."""
VARIANCE_FLOOR = 1e-4
COMPILED_MULTIPLE = 16
"""Compiled blocks see lengths that are multiples of this: few shapes, few compilations."""


@dataclass(frozen=True)
class TrainResult:
    """What ``train`` reached. Not finished: the same call goes on."""

    finished: bool
    directory: Path
    model: Path | None
    """The folder of the model, once there is one."""
    texts: int
    """Training texts."""
    cut: int
    """Training texts that were longer than the model's length, and were cut."""


@dataclass(frozen=True)
class Run:
    """One call of ``train``: what all its parts need to know."""

    recipe: Recipe
    data: str
    out: Path
    cache: Path
    backbone: Backbone
    device: torch.device
    stop: Callable[[], bool]
    tensorboard: bool


def train(
    recipe: Recipe,
    data: str | Path,
    out: str | Path,
    stage: StageName | None = None,
    *,
    report: Callable[[StepReport], None] = lambda step: None,
    max_seconds: float | None = None,
    device: str | torch.device | None = None,
    cache: str | Path | None = None,
    tensorboard: bool = False,
) -> TrainResult:
    """Train on the texts of ``data`` and leave a model in ``out/model``; the same call continues where one stopped.

    stage: None for all; "autoencoder" or "diffusion" for one of them; "export" writes the model from what is there.
    report: called at each line of the journal, and while caches are made.
    max_seconds: stop after so long, with everything saved; so do SIGINT and SIGTERM.
    cache: where tokens and activations are kept, ``out/cache`` by default; runs on the same data may share it.

    Raises TrainingError (other settings in the same folder, a loss that is not a number), DataError, BackboneError.
    """
    if stage is not None and stage not in get_args(StageName):
        raise ConfigError(
            f"stage {stage!r} is unknown; choose one of {', '.join(get_args(StageName))}, or none for all"
        )
    if recipe.init_autoencoder and stage == "autoencoder":
        raise ConfigError("stage is autoencoder, but init_autoencoder takes a trained one; leave one of them out")
    target = torch.device(device) if device is not None else best_device()
    out = Path(out).expanduser()
    with _stop_requests(max_seconds) as stop:
        backbone = open_backbone(recipe.model.backbone, target)
        caches = Path(cache).expanduser() if cache else out / "cache"
        run = Run(recipe, str(data), out, caches, backbone, target, stop, tensorboard)
        finished = False
        try:
            for step in _everything(run, stage):
                report(step)
            finished = True
        except Stopped:
            pass
    texts, cut = _counts(run)
    model = out / "model"
    return TrainResult(finished, out, model if model.is_dir() else None, texts, cut)


def _everything(run: Run, stage: StageName | None) -> Iterator[StepReport]:
    train_texts, valid_texts = yield from _texts(run)
    if stage in (None, "autoencoder") and not run.recipe.init_autoencoder:
        yield from _train_autoencoder(run, train_texts, valid_texts)
    if stage == "autoencoder":
        return
    autoencoder = _trained_autoencoder(run)
    normaliser, latents, valid_latents = yield from _latents(run, autoencoder, train_texts, valid_texts)
    denoiser = _new_denoiser(run, autoencoder)
    if stage != "export":
        yield from _train_diffusion(run, denoiser, normaliser, latents, valid_latents)
    _export(run, autoencoder, normaliser, denoiser, train_texts)


@contextmanager
def _stop_requests(max_seconds: float | None) -> Iterator[Callable[[], bool]]:
    """A function that turns True when time is up or the process is asked to end; a second request ends it at once."""
    end = None if max_seconds is None else time.monotonic() + max_seconds
    asked: list[int] = []

    def on_signal(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    in_main = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, on_signal) for n in (signal.SIGINT, signal.SIGTERM)} if in_main else {}
    try:
        yield lambda: bool(asked) or (end is not None and time.monotonic() >= end)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- the corpus


def _texts(run: Run) -> Generator[StepReport, None, tuple[TextStore, TextStore]]:
    stores = []
    for split in SPLITS:
        folder, settings = run.cache / f"{split}-texts", _text_settings(run, split)
        if not is_made(folder, settings):
            counts = write_texts(
                folder, _corpora(run, split), run.backbone, run.recipe.model.autoencoder.max_length, settings, run.stop
            )
            yield from _progress(f"tokenise {split}", 0, counts)
        activations = run.cache / f"{split}-activations"
        stores.append(TextStore(folder, activations if is_made(activations, settings) else None))
    if stores[0].main == 0:
        raise DataError(f"{run.data} gave no texts for training; give more texts or a smaller valid_fraction")
    return stores[0], stores[1]


def _corpora(run: Run, split: str) -> list[Iterator[str]]:
    recipe = run.recipe
    main = _read(run.data, recipe, split)
    if split == "valid":
        return [islice(main, VALID_TEXTS)]
    if not recipe.autoencoder_data:
        return [main]
    return [main, _read(recipe.autoencoder_data, recipe, split)]


def _read(data: str, recipe: Recipe, split: str) -> Iterator[str]:
    return (example.text for example in open_task(data, recipe.data).examples(split))


def _text_settings(run: Run, split: str) -> dict[str, Any]:
    recipe = run.recipe
    return {
        "split": split,
        "data": _data_identity(run.data),
        "autoencoder_data": _data_identity(recipe.autoencoder_data) if recipe.autoencoder_data else None,
        "data_config": asdict(recipe.data),
        "max_length": recipe.model.autoencoder.max_length,
        "backbone": run.backbone.fingerprint,
    }


def _data_identity(data: str) -> str:
    """A file is its content, whatever its place; anything else is its name."""
    path = Path(data).expanduser()
    if not path.is_file():
        return data
    with path.open("rb") as file:
        return f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def _cache_activations(run: Run, store: TextStore, name: str) -> Iterator[StepReport]:
    folder = run.cache / f"{name}-activations"
    settings = _text_settings(run, name)
    if not is_made(folder, settings):
        parts = _parts(store.lengths)

        def rows_of(indices: Tensor) -> tuple[Tensor, Tensor]:
            places, mask = store.positions(indices)
            batch = store.batch(indices, run.device)
            return places[mask], run.backbone.encode(batch.tokens, batch.mask)[batch.mask]

        shape = (len(store.tokens), run.backbone.width)
        done = write_rows(folder, shape, parts, rows_of, settings, run.stop)
        yield from _progress(f"encode {name}", len(store), (n * ENCODE_AT_ONCE for n in done))
    store.activations = open_rows(folder)


def _parts(lengths: Tensor) -> list[Tensor]:
    """The texts in parts of about one length, always the same ones."""
    return list(lengths.argsort(stable=True).split(ENCODE_AT_ONCE)) if len(lengths) else []


def _progress(stage: str, total: int, counts: Iterator[int]) -> Iterator[StepReport]:
    """Reports of how many texts are done, one a second and a last one; ``total`` 0 means unknown."""
    start = shown = time.monotonic()
    first = count = None
    for count in counts:
        count = min(count, total or count)
        first = count if first is None else first
        now = time.monotonic()
        if now - shown > 1:
            shown = now
            speed = (count - first) / (now - start)
            left = (total - count) / speed if total and speed else 0.0
            yield StepReport(count, total, stage, {}, speed, left)
    if count is not None:
        speed = count / max(1e-9, time.monotonic() - start)
        yield StepReport(total or count, total or count, stage, {}, speed, 0.0)


# --- the autoencoder


def _train_autoencoder(run: Run, train_texts: TextStore, valid_texts: TextStore) -> Iterator[StepReport]:
    recipe, folder = run.recipe, run.out / "autoencoder"
    config = recipe.autoencoder_training
    _claim(folder, _autoencoder_settings(run))
    if _is_done(folder, config):
        return
    if recipe.cache_activations:
        yield from _cache_activations(run, valid_texts, "valid")
        yield from _cache_activations(run, train_texts, "train")
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
    yield from _fit(run, stage, config, folder)


def _autoencoder_settings(run: Run) -> dict[str, Any]:
    model = asdict(run.recipe.model)
    return {
        "texts": _text_settings(run, "train"),
        "model": {name: model[name] for name in ("autoencoder", "perturbation", "autoencoder_objective")},
        "autoencoder_training": fit_settings(run.recipe.autoencoder_training),
        "cache_activations": run.recipe.cache_activations,
        "seed": run.recipe.seed,
    }


def _new_autoencoder(run: Run) -> Autoencoder:
    with _seeded(run, "autoencoder"):
        return Autoencoder(run.recipe.model.autoencoder, run.backbone.width, run.backbone.vocab_size)


def _initialise(run: Run, autoencoder: Autoencoder, texts: TextStore) -> None:
    """Statistics of the activations, and the start that the config asks for."""
    generator = torch.Generator().manual_seed(seed_of(run.recipe.seed, "initialise"))
    chosen = torch.randperm(len(texts), generator=generator)[:STATISTICS_TEXTS]
    batch, hidden = _encoded(run, texts, chosen)
    real = hidden[batch.mask].double()
    std = real.var(0, correction=0).clamp_min(VARIANCE_FLOOR).sqrt()
    embeddings = run.backbone.embeddings().cpu()
    mask_embedding = embeddings[run.backbone.tokenizer.mask_id]
    autoencoder.set_statistics(real.mean(0).float(), std.float(), mask_embedding)
    if run.recipe.model.autoencoder.init == "local":
        initialise_locally(
            autoencoder, autoencoder.standardise(hidden), batch.mask, batch.tokens, embeddings, generator
        )


def _encoded(run: Run, texts: TextStore, chosen: Tensor) -> tuple[TextBatch, Tensor]:
    """A large batch on the CPU with its activations, encoded by parts if they are not cached."""
    batch = texts.batch(chosen, torch.device("cpu"))
    if batch.activations is not None:
        return batch, batch.activations
    parts = zip(batch.tokens.split(ENCODE_AT_ONCE), batch.mask.split(ENCODE_AT_ONCE), strict=True)
    return batch, torch.cat([run.backbone.encode(tokens, mask).cpu() for tokens, mask in parts])


def _trained_autoencoder(run: Run) -> Autoencoder:
    """The autoencoder of this run, or of the run or model that the recipe takes it from."""
    autoencoder = _new_autoencoder(run)
    source = None if run.recipe.init_autoencoder is None else Path(run.recipe.init_autoencoder).expanduser()
    if source is None:
        folder = run.out / "autoencoder"
        if (folder / STATE_FILE).exists():
            _claim(folder, _autoencoder_settings(run))
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


# --- latents and diffusion


def _latents(
    run: Run, autoencoder: Autoencoder, train_texts: TextStore, valid_texts: TextStore
) -> Generator[StepReport, None, tuple[Normaliser, Tensor, Tensor]]:
    """Raw latents of the main corpus, normalised as they are read; statistics over the training texts."""
    digest = _digest(autoencoder)
    folders = [run.out / "latents" / split for split in SPLITS]
    for folder, store, split in zip(folders, (train_texts, valid_texts), SPLITS, strict=True):
        settings = {"texts": _text_settings(run, split), "autoencoder": digest}
        if not is_made(folder, settings):
            yield from _encode_latents(run, autoencoder, store, folder, settings, split)
    raw, valid = (_on_device(open_rows(folder), run.device) for folder in folders)
    normaliser = Normaliser(raw.shape[1], raw.shape[2])
    statistics = folders[0] / "statistics.safetensors"
    if not statistics.exists():
        normaliser.fit(part.float() for part in raw.split(1024))
        write_tensors(statistics, normaliser.state_dict(), {})
    normaliser.load_state_dict(read_tensors(statistics)[0])
    return normaliser.to(run.device), raw, valid


def _encode_latents(
    run: Run, autoencoder: Autoencoder, store: TextStore, folder: Path, settings: Mapping[str, Any], split: str
) -> Iterator[StepReport]:
    parts = _parts(store.lengths[: store.main])

    @torch.no_grad()
    def rows_of(indices: Tensor) -> tuple[Tensor, Tensor]:
        batch = store.batch(indices, run.device)
        hidden = autoencoder.standardise(activations_of(batch, run.backbone))
        return indices, autoencoder.compress(hidden, batch.mask)

    shape = (store.main, run.recipe.model.autoencoder.num_latents, autoencoder.latent_width)
    done = write_rows(folder, shape, parts, rows_of, settings, run.stop)
    yield from _progress(f"compress {split}", store.main, (n * ENCODE_AT_ONCE for n in done))


def _new_denoiser(run: Run, autoencoder: Autoencoder) -> Denoiser:
    with _seeded(run, "denoiser"):
        return Denoiser(run.recipe.model.denoiser, autoencoder.latent_width, run.backbone.width).to(run.device)


def _train_diffusion(
    run: Run, denoiser: Denoiser, normaliser: Normaliser, latents: Tensor, valid: Tensor
) -> Iterator[StepReport]:
    recipe, folder = run.recipe, run.out / "diffusion"
    model = asdict(recipe.model)
    settings = {
        "latents": read_meta(run.out / "latents" / "train")["settings"],
        "model": {name: model[name] for name in ("schedule", "denoiser", "diffusion_objective")},
        "diffusion_training": fit_settings(recipe.diffusion_training),
        "seed": recipe.seed,
    }
    _claim(folder, settings)
    config = recipe.diffusion_training
    stage = DiffusionStage(denoiser, recipe.model, normaliser, latents, valid, config.batch_size, recipe.seed)
    yield from _fit(run, stage, config, folder)


# --- what both stages share


def _fit(run: Run, stage: Stage, config: FitConfig, folder: Path) -> Iterator[StepReport]:
    finished = yield from fit(stage, config, folder, seed=run.recipe.seed, stop=run.stop, tensorboard=run.tensorboard)
    if not finished:
        raise Stopped


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """The first call writes its settings into ``folder``; later ones must agree."""
    path = folder / "settings.json"
    if (folder / STATE_FILE).exists() and path.exists():
        check_settings(folder, settings, json.loads(path.read_text(encoding="utf-8")))
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")


def _is_done(folder: Path, config: FitConfig) -> bool:
    path = folder / STATE_FILE
    return path.exists() and int(read_tensors(path)[1]["step"]) >= config.steps


@contextmanager
def _seeded(run: Run, name: str) -> Iterator[None]:
    """Weights start the same for the same seed, and nobody else's random numbers move."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(run.recipe.seed, name, "weights"))
        yield


def _digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _resident(store: TextStore, device: torch.device) -> TextStore:
    """Keep the texts on a GPU that has room for them."""
    size = 0 if store.activations is None else store.activations.nbytes
    return store.to(device) if _has_room(device, size) else store


def _on_device(rows: Tensor, device: torch.device) -> Tensor:
    return rows.to(device) if _has_room(device, rows.nbytes) else rows


def _has_room(device: torch.device, size: int) -> bool:
    return device.type == "cuda" and size < 0.4 * torch.cuda.mem_get_info(device)[0]


# --- the model


def _export(run: Run, autoencoder: Autoencoder, normaliser: Normaliser, denoiser: Denoiser, texts: TextStore) -> None:
    load_trained(denoiser, run.out / "diffusion")
    config = run.recipe.model
    record = _record(run, texts)
    modules = (autoencoder, normaliser, denoiser)
    model = TextDiffusion(config, *modules, run.backbone.tokenizer, run.backbone.fingerprint, record)
    model.save(run.out / "model")


def _record(run: Run, texts: TextStore) -> dict[str, Any]:
    """What made this model, for its card: nothing of this machine but what computed."""
    recipe = asdict(run.recipe)
    recipe.pop("model")
    for name in ("init_autoencoder", "autoencoder_data"):
        recipe[name] = recipe[name] and Path(recipe[name]).name
    lengths = texts.lengths[: texts.main].float()
    data = {"name": Path(run.data).name, "texts": texts.main, "cut": texts.cut, "mean_tokens": float(lengths.mean())}
    if len(texts) > texts.main:
        data["texts_for_the_autoencoder"] = len(texts)
    cuda = run.device.type == "cuda"
    device = torch.cuda.get_device_name(run.device) if cuda else f"{platform.machine()} {run.device.type}"
    versions = {"textcosm": textcosm.__version__, "torch": str(torch.__version__)}
    stages = {name: _reached(run.out / name) for name in ("autoencoder", "diffusion")}
    return {"data": data, "recipe": recipe, **stages, "device": device, "versions": versions}


def _reached(folder: Path) -> dict[str, Any]:
    """Steps, seconds and the last figures of a stage that this run trained."""
    if not (folder / STATE_FILE).exists():
        return {}
    header = read_tensors(folder / STATE_FILE)[1]
    figures: dict[str, float] = {}
    for record in read_journal(folder / "journal.jsonl"):
        figures |= {name: value for name, value in record.items() if name not in ("step", "seconds")}
    return {"steps": header["step"], "seconds": round(header["seconds"]), **figures}


def _counts(run: Run) -> tuple[int, int]:
    folder = run.cache / "train-texts"
    if not folder.is_dir():
        return 0, 0
    meta = read_meta(folder)
    return meta["main"], meta["cut"]
