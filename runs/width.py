"""How wide should a latent be: 64 to 384 numbers at a fixed N, by a learned bottleneck and by PCA.

    python runs/width.py DATA --test TEST.jsonl --out DIR

One wide autoencoder is trained first. *Learned*: its weights with a linear bottleneck in the middle, started from PCA
and trained on with everything else for as long again (the widest: without a bottleneck, trained on alike). *PCA*: the
latents of that widest one, reduced before diffusion, its decoder unchanged. The paper holds the width fixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import tyro
from page import Panel, curve, shown, write_page
from study import Study, command, run, tell
from torch import Tensor
from variants import TrainingPlan, Variant, Workshop, budget, budget_options, described, measure

from textcosm.errors import ConfigError
from textcosm.evaluation.markdown import markdown_table
from textcosm.latent.autoencoder import Autoencoder
from textcosm.text.backbone import open_backbone
from textcosm.training.cache import TextStore
from textcosm.training.ema import Ema
from textcosm.training.fit import FitConfig
from textcosm.training.optim import build_optimizers
from textcosm.training.recipe import Recipe
from textcosm.training.stages import activations_of
from textcosm.training.state import TrainState, load_trained

WIDTHS = (64, 128, 256, 384)
PCA_TEXTS = 512
"""Texts whose latents give the bottleneck its first directions."""
BASE = "wide"


@dataclass(frozen=True, kw_only=True)
class WidthPlan(TrainingPlan):
    """Which widths."""

    widths: tuple[int, ...] = WIDTHS
    """Of a latent; the largest must be the autoencoder's own."""


def learned(recipe: Recipe, width: int) -> Recipe:
    """The recipe with latents of this width."""
    return replace(recipe, model=replace(recipe.model, autoencoder=replace(recipe.model.autoencoder, latent_width=width)))


def by_pca(recipe: Recipe, width: int, source: Path) -> Recipe:
    """Diffusion alone, on the leading components of the latents of the autoencoder in ``source``."""
    normaliser = replace(recipe.model.normaliser, pca_width=width)
    return replace(recipe, model=replace(recipe.model, normaliser=normaliser), init_autoencoder=str(source))


class Narrowing:
    """Starts an autoencoder with a bottleneck from the wide one."""

    def __init__(self, plan: WidthPlan, shop: Workshop):
        self.wide = shop.plan.recipe
        self.folder, self.cache = plan.out / BASE / "autoencoder", shop.cache
        self.backbone = open_backbone(self.wide.model.backbone)

    def start(self, recipe: Recipe, folder: Path) -> None:
        """Write the first state of the training of ``recipe``'s autoencoder into ``folder``."""
        wide, narrow = self._new(self.wide), self._new(recipe)
        load_trained(wide, self.folder)
        if narrow.latent_width == wide.latent_width:
            narrow.load_state_dict(wide.state_dict())
        else:
            self._fill(narrow, wide)
        save_start(narrow, recipe.autoencoder_training, folder)

    def _new(self, recipe: Recipe) -> Autoencoder:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            return Autoencoder(recipe.model.autoencoder, self.backbone.width, self.backbone.vocab_size).eval()

    @torch.no_grad()
    def _fill(self, narrow: Autoencoder, wide: Autoencoder) -> None:
        """All weights of the wide one; between them the leading directions of its latents."""
        kept = {name: tensor for name, tensor in wide.state_dict().items() if not name.startswith("latents_norm")}
        directions, size = leading(self._latents(wide), narrow.latent_width)
        # The wide latents are gain * c / rms(c); the narrow ones, of unit gain, point along the directions of those.
        kept["to_latents.weight"] = directions.T * wide.latents_norm.weight
        kept["from_latents.weight"] = size * directions
        narrow.load_state_dict(kept, strict=False)  # the narrow norm keeps its gain of 1

    @torch.no_grad()
    def _latents(self, wide: Autoencoder) -> Tensor:
        activations = self.cache / "train-activations"
        store = TextStore(self.cache / "train-texts", activations if activations.is_dir() else None)
        generator = torch.Generator().manual_seed(self.wide.seed)
        parts = torch.randperm(len(store), generator=generator)[:PCA_TEXTS].split(64)
        batches = (store.batch(part, torch.device("cpu")) for part in parts)
        found = [wide.compress(wide.standardise(activations_of(b, self.backbone)), b.mask) for b in batches]
        return torch.cat(found).flatten(0, 1)


def leading(rows: Tensor, width: int) -> tuple[Tensor, float]:
    """The directions ``(features, width)`` that hold most of the rows' squares, and the rows' root mean square there.

    Not centred: the bottleneck is a matrix without a bias.
    """
    if width > rows.shape[1]:
        raise ConfigError(f"a width of {width} is more than the {rows.shape[1]} of the autoencoder's latents; lower it")
    vectors = torch.linalg.eigh(rows.double().T @ rows.double()).eigenvectors.flip(-1)[:, :width].to(rows.dtype)
    return vectors, float((rows @ vectors).square().mean(1).sqrt().mean())


def save_start(autoencoder: Autoencoder, config: FitConfig, folder: Path) -> None:
    """A training state before its first step, as ``fit`` would have it."""
    rates = (config.learning_rate, config.muon_learning_rate, config.weight_decay, config.betas, config.eps)
    optimizers = build_optimizers(autoencoder, config.optimizer, *rates)
    folder.mkdir(parents=True, exist_ok=True)
    TrainState(autoencoder, optimizers, Ema(autoencoder, config.ema) if config.ema else None).save(folder)


def study(plan: WidthPlan, say=tell) -> Path:
    """Train and measure every variant that is not done yet, and write the page."""
    work = Study(plan, say)
    shop = Workshop(plan, work)
    rows: list[Row] = []
    if shop.autoencoder(BASE, plan.recipe) is not None:
        narrowing = Narrowing(plan, shop)
        for width in sorted(plan.widths, reverse=True):
            _add(rows, work, "learned", width, shop.trained(f"learned-{width}", learned(plan.recipe, width), narrowing.start))
        widest = plan.out / f"learned-{max(plan.widths)}"
        for width in sorted(plan.widths, reverse=True)[1:]:
            recipe = by_pca(learned(plan.recipe, max(plan.widths)), width, widest)
            _add(rows, work, "PCA", width, shop.trained(f"pca-{width}", recipe, latents=widest))
    return _page(plan, work, rows)


Row = tuple[str, int, Variant, dict[str, Any]]


def _add(rows: list[Row], work: Study, kind: str, width: int, trained: Variant | None) -> None:
    found = measure(work, trained) if trained is not None else None
    if trained is not None and found is not None:
        rows.append((kind, width, trained, found))


def _page(plan: WidthPlan, work: Study, rows: Sequence[Row]) -> Path:
    real = work.real()
    said = [
        f"One recipe at N = {plan.recipe.model.autoencoder.num_latents} with latents of different width. "
        f"{described(plan.recipe)} {budget(plan)} Learned: a trained wide autoencoder with a linear bottleneck, started "
        "from PCA and trained on as long again. PCA: the latents of the widest of these, reduced per slot before "
        "diffusion; its decoder was not told. Accuracy is the share of tokens of held-out texts that come back.",
        *work.said(),
    ]
    head = ("bottleneck", "width", "steps", "accuracy", "BLEU", "MAUVE", "PPL", "Div")
    cells = [(kind, str(width), trained.said(), *_measures(found)) for kind, width, trained, found in rows]
    if real:
        cells.append(("real texts", "", "", "", "", *_measures(real)[2:]))
    panels = [
        Panel(title, "latent width", title, [_line(rows, kind, measure_) for kind in ("learned", "PCA")], log_y=log)
        for title, measure_, log in (
            ("MAUVE", "mauve", False),
            ("perplexity", "perplexity", True),
            ("token accuracy", "token_accuracy", False),
        )
    ]
    options = [plan.data.name, *budget_options(plan), "--widths", *map(str, plan.widths)]
    return write_page(
        plan.docs, "width", "How wide a latent should be", said, [markdown_table(head, cells)], panels, command("width", plan, *options)
    )


def _measures(found: dict[str, Any]) -> tuple[str, ...]:
    wanted = (("token_accuracy", 3), ("bleu", 3), ("mauve", 3), ("perplexity", 0), ("diversity", 3))
    return tuple(shown(found.get(name), digits) for name, digits in wanted)


def _line(rows: Sequence[Row], kind: str, measured: str) -> Any:
    points = [(float(width), found[measured]) for k, width, _, found in rows if k == kind]
    return curve(kind, sorted(points, key=lambda point: point[0]))


if __name__ == "__main__":
    chosen = tyro.cli(WidthPlan, description=__doc__)
    run("width", lambda: study(chosen))
