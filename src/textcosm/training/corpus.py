"""The corpus of a run: texts to tokens, to activations, to latents, each made once and kept."""

import hashlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from textcosm.errors import DataError
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.normaliser import Normaliser, new_normaliser
from textcosm.tasks import DataConfig, Example, Task, focused, open_task
from textcosm.tasks.task import SPLITS
from textcosm.training.cache import TextBatch, TextStore, is_made, open_rows, write_rows, write_texts
from textcosm.training.fit import StepReport
from textcosm.training.run import Run, has_room
from textcosm.training.stages import activations_of
from textcosm.training.state import read_tensors, write_tensors

VALID_TEXTS = 512
"""Held-out texts that a validation measures, at most."""
ENCODE_AT_ONCE = 64
"""Texts per call of the frozen encoder."""
STATISTICS_AT_ONCE = 256
"""Texts whose latents are summed up at once, in float64."""


@dataclass(frozen=True)
class LatentStore:
    """Raw latents ``(texts, slots, width)`` of the main corpus, and the statistics of the training ones."""

    normaliser: Normaliser
    train: Tensor
    valid: Tensor


def make_texts(run: Run) -> Generator[StepReport, None, tuple[TextStore, TextStore]]:
    """The tokens of the training and validation texts, with their activations where they are cached."""
    train, valid = yield from _stores(run, run.recipe.model.autoencoder.max_length, _texts, text_settings, "texts")
    if train.main == 0:
        raise DataError(f"{run.data} gave no texts for training; give more texts or a smaller valid_fraction")
    return train, valid


def make_sources(run: Run) -> Generator[StepReport, None, tuple[TextStore, TextStore]]:
    """The tokens of the sources that the main corpus answers, row i for text i, in the splits of :func:`make_texts`."""
    return (yield from _stores(run, run.recipe.model.source.max_length, _sources, source_settings, "sources"))


def _stores(
    run: Run,
    length: int,
    corpora: Callable[[Run, str], "_Corpora"],
    settings_of: Callable[[Run, str], dict[str, Any]],
    kind: str,
) -> Generator[StepReport, None, tuple[TextStore, TextStore]]:
    """The tokens of both splits, each made once and kept by its settings."""
    stores = []
    for split in SPLITS:
        settings = settings_of(run, split)
        name = f"{split}-{kind}"
        if not is_made(run.cache / name, settings):
            stage = f"tokenise {split}" if kind == "texts" else f"tokenise {kind} {split}"
            yield from _write(run, run.cache / name, corpora(run, split), length, settings, stage)
        activations = f"{split}-activations" if kind == "texts" else f"{name}-activations"
        stores.append(_opened(run, name, activations, settings))
    return stores[0], stores[1]


@dataclass(frozen=True)
class _Corpora:
    """Streams of texts, the first from ``task``."""

    task: Task
    texts: Sequence[Iterator[str]]


def _texts(run: Run, split: str) -> _Corpora:
    recipe = run.recipe
    task = open_task(run.data, recipe.data)
    main = (example.text for example in _examples(task, split))
    if split == "valid" or not recipe.autoencoder_data:
        return _Corpora(task, (main,))
    config = DataConfig(recipe.data.text_field, recipe.data.valid_fraction)
    more = (example.text for example in open_task(recipe.autoencoder_data, config).examples(split))
    return _Corpora(task, (main, more))


def _sources(run: Run, split: str) -> _Corpora:
    task = open_task(run.data, run.recipe.data)
    words = run.recipe.model.source.context_words
    return _Corpora(task, ((focused(example.source or "", words) for example in _examples(task, split)),))


def _examples(task: Task, split: str) -> Iterator[Example]:
    return islice(task.examples(split), VALID_TEXTS if split == "valid" else None)


def _write(
    run: Run, folder: Path, corpora: _Corpora, max_length: int, settings: Mapping[str, Any], stage: str
) -> Iterator[StepReport]:
    left_out = partial(getattr, corpora.task, "left_out", 0)
    counts = write_texts(folder, corpora.texts, run.backbone, max_length, settings, run.stop, left_out)
    yield from _progress(stage, 0, counts)


def _opened(run: Run, texts: str, activations: str, settings: Mapping[str, Any]) -> TextStore:
    folder = run.cache / activations
    return TextStore(run.cache / texts, folder if is_made(folder, settings) else None)


def text_settings(run: Run, split: str) -> dict[str, Any]:
    """All that the tokens and activations of a split depend on."""
    recipe = run.recipe
    return {
        **_data_settings(run, split),
        "autoencoder_data": _data_identity(recipe.autoencoder_data) if recipe.autoencoder_data else None,
        "max_length": recipe.model.autoencoder.max_length,
    }


def source_settings(run: Run, split: str) -> dict[str, Any]:
    """The same of the sources of a split."""
    source = {name: value for name, value in asdict(run.recipe.model.source).items() if value is not None}
    return {**_data_settings(run, split), **source}


def _data_settings(run: Run, split: str) -> dict[str, Any]:
    added = ("task", "source_field", "target_field")  # caches from before there were pairs go on
    config = {name: value for name, value in asdict(run.recipe.data).items() if name not in added or value is not None}
    return {
        "split": split,
        "data": _data_identity(run.data),
        "data_config": config,
        "backbone": run.backbone.fingerprint,
    }


def _data_identity(data: str) -> str:
    """A file is its content, whatever its place; anything else is its name."""
    path = Path(data).expanduser()
    if not path.is_file():
        return data
    with path.open("rb") as file:
        return f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"


def cache_activations(run: Run, store: TextStore, name: str, settings: Mapping[str, Any]) -> Iterator[StepReport]:
    """Encode the texts of ``store`` once, in ``name-activations``, and let it read their activations from there."""
    folder = run.cache / f"{name}-activations"
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


def encoded(run: Run, texts: TextStore, chosen: Tensor) -> tuple[TextBatch, Tensor]:
    """A large batch on the CPU with its activations, encoded by parts if they are not cached."""
    batch = texts.batch(chosen, torch.device("cpu"))
    if batch.activations is not None:
        return batch, batch.activations
    parts = zip(batch.tokens.split(ENCODE_AT_ONCE), batch.mask.split(ENCODE_AT_ONCE), strict=True)
    return batch, torch.cat([run.backbone.encode(tokens, mask).cpu() for tokens, mask in parts])


# --- latents


def make_latents(
    run: Run, autoencoder: Autoencoder, train_texts: TextStore, valid_texts: TextStore
) -> Generator[StepReport, None, LatentStore]:
    """Latents are kept raw, and normalised as they are read: their statistics are known only at the end."""
    digest = _digest(autoencoder)
    folders = [run.out / "latents" / split for split in SPLITS]
    for folder, store, split in zip(folders, (train_texts, valid_texts), SPLITS, strict=True):
        settings = {"texts": text_settings(run, split), "autoencoder": digest}
        yield from _compress(run, autoencoder, store, folder, settings, split)
    raw, valid = (_on_device(open_rows(folder), run.device) for folder in folders)
    kept = run.recipe.model.normaliser.pca_width
    normaliser = new_normaliser(autoencoder, run.recipe.model.normaliser)
    statistics = folders[0] / (f"statistics-pca-{kept}.safetensors" if kept else "statistics.safetensors")
    if not statistics.exists():
        normaliser.fit(part.float() for part in raw.split(STATISTICS_AT_ONCE))
        write_tensors(statistics, normaliser.state_dict(), {})
    normaliser.load_state_dict(read_tensors(statistics)[0])
    return LatentStore(normaliser.to(run.device), raw, valid)


def make_source_latents(
    run: Run, autoencoder: Autoencoder, normaliser: Normaliser, stores: Sequence[TextStore]
) -> Generator[StepReport, None, list[Tensor]]:
    """Normalised latents of the sources of both splits, each cut where the autoencoder's positions end."""
    found, digest = [], _digest(autoencoder)
    for split, store in zip(SPLITS, stores, strict=True):
        folder = run.out / "latents" / f"{split}-sources"
        settings = {"texts": source_settings(run, split), "autoencoder": digest}
        yield from _compress(run, autoencoder, store, folder, settings, f"sources {split}")
        found.append(normalised(open_rows(folder), normaliser, run.device))
    return found


def normalised(raw: Tensor, normaliser: Normaliser, device: torch.device) -> Tensor:
    """Stored latents ``(texts, slots, width)`` as models read them, in the stored type."""
    rows = [normaliser.normalise(part.to(device).float()).to(raw.dtype) for part in raw.split(STATISTICS_AT_ONCE)]
    return torch.cat(rows) if rows else raw


def _compress(
    run: Run, autoencoder: Autoencoder, store: TextStore, folder: Path, settings: Mapping[str, Any], stage: str
) -> Iterator[StepReport]:
    """The latents of the main corpus of ``store``, made once and kept in ``folder``."""
    if is_made(folder, settings):
        return
    limit = run.recipe.model.autoencoder.max_length

    @torch.no_grad()
    def rows_of(indices: Tensor) -> tuple[Tensor, Tensor]:
        batch = store.batch(indices, run.device)
        tokens, mask = batch.tokens[:, :limit], batch.mask[:, :limit]
        if batch.tokens.shape[1] > limit:  # a source; as the tokenizer cuts: the end token stays
            tokens = torch.where((batch.mask.sum(1) > limit)[:, None] & _last(mask), run.backbone.tokenizer.end_id, tokens)
            hidden = run.backbone.encode(tokens, mask)
        else:
            hidden = activations_of(batch, run.backbone)
        return indices, autoencoder.compress(autoencoder.standardise(hidden), mask)

    shape = (store.main, run.recipe.model.autoencoder.num_latents, autoencoder.latent_width)
    done = write_rows(folder, shape, _parts(store.lengths[: store.main]), rows_of, settings, run.stop)
    yield from _progress(f"compress {stage}", store.main, (n * ENCODE_AT_ONCE for n in done))


def _last(mask: Tensor) -> Tensor:
    """The last position of a batch."""
    return torch.arange(mask.shape[1], device=mask.device) == mask.shape[1] - 1


def _digest(autoencoder: Autoencoder) -> str:
    """Of all but the form head, which is fitted at every export and touches no latent."""
    digest = hashlib.sha256()
    for name, tensor in autoencoder.state_dict().items():
        if not name.startswith("form_head."):
            digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _on_device(rows: Tensor, device: torch.device) -> Tensor:
    return rows.to(device) if has_room(device, rows.nbytes) else rows
