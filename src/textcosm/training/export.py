"""What a run leaves behind: the model, with the record of how it was made."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import textcosm
from textcosm.diffusion.denoiser import Denoiser
from textcosm.evaluation.manifest import machine
from textcosm.latent.autoencoder import Autoencoder
from textcosm.latent.forms import before
from textcosm.latent.normaliser import Normaliser
from textcosm.pipeline import TextDiffusion
from textcosm.text.ngrams import NGrams
from textcosm.training.cache import TextStore
from textcosm.training.corpus import ENCODE_AT_ONCE
from textcosm.training.fit import seed_of
from textcosm.training.journal import read_journal
from textcosm.training.run import Run
from textcosm.training.stages import Sources, activations_of
from textcosm.training.state import STATE_FILE, load_trained, read_header

NGRAM_TEXTS = 200_000
"""Texts whose n-grams a model keeps, at most: some 10 million tokens, half a minute."""
FORM_TEXTS = 2048
"""Texts that the form head is fitted on: some 100,000 tokens for its 6 x width weights."""


def export_model(
    run: Run,
    autoencoder: Autoencoder,
    normaliser: Normaliser,
    denoiser: Denoiser,
    texts: TextStore,
    sources: Sources | None = None,
) -> None:
    """Write ``OUT/model`` with the denoiser as far as it is trained; an earlier one is replaced."""
    load_trained(denoiser, run.out / "diffusion")
    _fit_forms(run, autoencoder, normaliser, texts)
    config = run.recipe.model
    record = _record(run, texts, sources)
    modules = (autoencoder, normaliser, denoiser)
    tokenizer = run.backbone.tokenizer
    ngrams = NGrams.of_texts(*texts.beginning(NGRAM_TEXTS), tokenizer.vocab_size)
    model = TextDiffusion(config, *modules, tokenizer, run.backbone.fingerprint, record, ngrams)
    model.save(run.out / "model")


@torch.no_grad()
def _fit_forms(run: Run, autoencoder: Autoencoder, normaliser: Normaliser, texts: TextStore) -> None:
    """Fit the form head to what the finished decompressor makes of clean to noisy latents: generated ones lie between."""
    head = autoencoder.form_head
    head.count(*(part.to(run.device) for part in texts.neighbours()))
    generator = torch.Generator().manual_seed(seed_of(run.recipe.seed, "forms"))
    rows: list[list[Tensor]] = []
    for indices in torch.randperm(len(texts), generator=generator)[:FORM_TEXTS].split(ENCODE_AT_ONCE):
        batch = texts.batch(indices, run.device)
        hidden = autoencoder.standardise(activations_of(batch, run.backbone))
        latents = normaliser.normalise(autoencoder.compress(hidden, batch.mask))
        noise = torch.randn(latents.shape, generator=generator) * torch.rand(len(latents), 1, 1, generator=generator)
        noisy = normaliser.denormalise(latents + noise.to(run.device))
        estimate = autoencoder.decompress(noisy)[:, : batch.mask.shape[1]]
        columns = (estimate, batch.tokens, before(batch.tokens), batch.forms)
        rows.append([column[batch.mask] for column in columns])
    hidden, tokens, preceding, forms = (torch.cat(column) for column in zip(*rows, strict=True))
    head.fit(hidden, tokens, preceding, forms)


def _record(run: Run, texts: TextStore, sources: Sources | None) -> dict[str, Any]:
    """What made this model, for its card: nothing of this machine but what computed."""
    recipe = asdict(run.recipe)
    recipe.pop("model")
    for name in ("init_autoencoder", "autoencoder_data"):
        recipe[name] = recipe[name] and Path(recipe[name]).name
    data = data_record(run, texts)
    if len(texts) > texts.main:
        data["texts_for_the_autoencoder"] = len(texts)
    if sources is not None:
        data["task"] = run.recipe.data.task
        store = sources.store
        data["sources"] = {"cut": store.cut, "left_out": store.left_out, "mean_tokens": _mean(store.lengths)}
    stages = {name: reached(run.out / name) for name in ("autoencoder", "diffusion", "adaptation")}
    return {"data": data, "recipe": recipe, **stages, **made_with(run.device)}


def data_record(run: Run, texts: TextStore) -> dict[str, Any]:
    """The corpus in a few figures; ``lengths[k]`` is the number of texts of k tokens, start and end token included."""
    lengths = texts.lengths[: texts.main]
    return {
        "name": Path(run.data).name,
        "texts": texts.main,
        "cut": texts.cut,
        "mean_tokens": _mean(lengths),
        "lengths": lengths.bincount().tolist(),
    }


def _mean(lengths: Tensor) -> float:
    return float(lengths.float().mean())


def made_with(device: torch.device) -> dict[str, Any]:
    """What computed, and with which versions."""
    versions = {"textcosm": textcosm.__version__, "torch": str(torch.__version__)}
    return {"device": machine(device)["device"], "versions": versions}


def reached(folder: Path) -> dict[str, Any]:
    """Steps, seconds and the last figures of a stage that this run trained."""
    if not (folder / STATE_FILE).exists():
        return {}
    header = read_header(folder / STATE_FILE)
    figures: dict[str, float] = {}
    for record in read_journal(folder / "journal.jsonl"):
        figures |= {name: value for name, value in record.items() if name not in ("step", "seconds")}
    return {"steps": header["step"], "seconds": round(header["seconds"]), **figures}
