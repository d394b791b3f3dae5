"""Training a study's variants: recipes of the study's size, a budget of seconds turned into steps, exact continuation.

A cosine schedule must know its number of steps beforehand. So a variant's speed is measured first, over a few steps,
and its steps are what then fits into ``--seconds-per-stage``; they are kept in ``VARIANT/steps.json``. Every variant
gets the same time, not the same steps: the page shows both.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import tyro
from study import Plan, Study, open_model, seconds

from textcosm.config import Config
from textcosm.diffusion.denoiser import DenoiserConfig, new_denoiser
from textcosm.diffusion.objective import DiffusionObjectiveConfig
from textcosm.evaluation.metrics import bleu
from textcosm.evaluation.results import bootstrap_ratio
from textcosm.latent.normaliser import Normaliser
from textcosm.pipeline import best_device
from textcosm.presets import preset
from textcosm.tasks.files import DataConfig
from textcosm.text.backbone import open_backbone
from textcosm.training.fit import FitConfig, StepReport, fit
from textcosm.training.journal import read_journal
from textcosm.training.recipe import Recipe
from textcosm.training.stages import DiffusionStage
from textcosm.training.state import STATE_FILE, read_header
from textcosm.training.train import train

SECONDS = {"small": 75.0, "full": None}
"""Training time of a stage; None takes the preset's steps."""
PRESETS = {"small": "stories-16", "full": "stories-16-gpu"}
REHEARSED = 6
"""Steps that give the speed: the last half of them counts."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan(Plan):
    """What a study that trains needs besides."""

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """The texts to train on."""
    seconds_per_stage: Annotated[
        float | None, tyro.conf.arg(metavar="S", help_behavior_hint="(default: 75 small, the preset's steps full)")
    ] = None
    """Training time of each stage of each variant."""
    cache: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Tokens and activations, shared by all variants (and by any run on the same DATA); --out/cache by default."""
    preset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The recipe that is varied; stories-16 (made smaller) or stories-16-gpu by default."""

    @property
    def seconds(self) -> float | None:
        return self.seconds_per_stage or SECONDS[self.size]

    @property
    def recipe(self) -> Recipe:
        """What every variant starts from."""
        recipe = preset(self.preset or PRESETS[self.size]).recipe
        recipe = replace(recipe, seed=self.seed, data=DataConfig(text_field=self.text_field))
        alone = replace(recipe.model.sampler, lm_weight=0.0)  # the latent space is studied, not n-grams of the texts
        recipe = replace(recipe, model=replace(recipe.model, sampler=alone))
        return smaller(recipe) if self.size == "small" and self.preset is None else recipe


def smaller(recipe: Recipe) -> Recipe:
    """Fewer layers, a narrower denoiser, smaller batches: more steps in a minute of two CPU cores; two stages only."""
    model = recipe.model
    model = replace(
        model,
        autoencoder=replace(model.autoencoder, compressor_depth=1, decompressor_depth=2),
        # The linear guess is worth hundreds of first steps (docs/log.md): more than there is time for.
        denoiser=DenoiserConfig(width=256, depth=6, heads=4, ff_width=704, projections=True, linear_rank=512),
        diffusion_objective=DiffusionObjectiveConfig(),
        sampler=replace(model.sampler, steps=20),
    )
    fit = replace(recipe.autoencoder_training, batch_size=32)
    return replace(recipe, model=model, autoencoder_training=fit, adapt_decoder=False)


@dataclass(frozen=True)
class Variant:
    """A trained variant and what its training took."""

    folder: Path
    steps: dict[str, int]
    seconds: dict[str, float]
    accuracy: float | None
    """Token accuracy of validation at the end of the autoencoder's training, where it was trained here."""

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def said(self) -> str:
        """Steps of both stages, for a table."""
        return " + ".join(str(self.steps[stage]) for stage in self.steps)


class Workshop:
    """Trains the variants of one study."""

    def __init__(self, plan: TrainingPlan, study: Study):
        self.plan, self.study = plan, study
        self.cache = plan.cache or plan.out / "cache"
        self.device = torch.device(plan.device) if plan.device else best_device()

    def trained(
        self, name: str, recipe: Recipe, start: Callable[[Recipe, Path], None] | None = None, latents: Path | None = None
    ) -> Variant | None:
        """Train ``recipe`` in ``OUT/name``, from where it stands; None when ``--max-minutes`` came first.

        start: gives the autoencoder's training its first state, see :meth:`autoencoder`.
        latents: a variant with the very same autoencoder, whose latents are taken over instead of made again.
        """
        if recipe.init_autoencoder is None and self.autoencoder(name, recipe, start) is None:
            return None
        folder = self.plan.out / name
        steps = self._steps(folder, recipe)
        if latents is not None and steps is not None:
            take_latents(latents, folder)
        if steps is None or not (self._has_model(folder) or self._train(with_steps(recipe, steps), folder, None)):
            return self._late(name)
        return describe(folder)

    def autoencoder(
        self, name: str, recipe: Recipe, start: Callable[[Recipe, Path], None] | None = None
    ) -> Variant | None:
        """Train the autoencoder of ``OUT/name`` alone; ``start(recipe, folder)`` writes the state that it starts from."""
        folder = self.plan.out / name
        if self._has_model(folder):
            return describe(folder)
        steps = self._steps(folder, recipe)
        if steps is None:
            return self._late(name)
        recipe = with_steps(recipe, steps)
        if start is not None and not (folder / "autoencoder" / STATE_FILE).is_file():
            start(recipe, folder / "autoencoder")
        return describe(folder) if self._train(recipe, folder, "autoencoder") else self._late(name)

    def _has_model(self, folder: Path) -> bool:
        """A model is written once diffusion has ended, or when ``textcosm train --stage export`` asked for it before."""
        path, steps = folder / "diffusion" / STATE_FILE, folder / "steps.json"
        if not ((folder / "model").is_dir() and path.is_file() and steps.is_file()):
            return False
        return int(read_header(path)["step"]) >= json.loads(steps.read_text(encoding="utf-8"))["diffusion"]

    def _late(self, name: str) -> None:
        self.study.missing.append(name)

    def _train(self, recipe: Recipe, folder: Path, stage: Any) -> bool:
        left = self.study.seconds_left()
        if left is not None and left <= 0:
            return False
        report = Reporter(folder.name, self.study.say)
        result = train(
            recipe, self.plan.data, folder, stage,
            report=report, max_seconds=left, device=self.device, cache=self.cache,
        )  # fmt: skip
        if not result.finished and not self.study.is_over():
            raise KeyboardInterrupt  # the process was asked to end; all is saved
        return result.finished

    # --- how many steps

    def _steps(self, folder: Path, recipe: Recipe) -> dict[str, int] | None:
        """Of each stage: measured once, then kept. None where there is no time to measure it."""
        path = folder / "steps.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        if self.study.is_over():
            return None
        steps = {"autoencoder": recipe.autoencoder_training.steps, "diffusion": recipe.diffusion_training.steps}
        if self.plan.seconds is not None:
            steps = {"diffusion": self._fitting(self._speed_of_diffusion(recipe))}
            if recipe.init_autoencoder is None:
                steps = {"autoencoder": self._fitting(self._speed_of_autoencoder(recipe, folder)), **steps}
        elif recipe.init_autoencoder is not None:
            del steps["autoencoder"]
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(steps), encoding="utf-8")
        self.study.say(f"{folder.name}: {steps} steps")
        return steps

    def _fitting(self, steps_per_second: float) -> int:
        return max(1, round((self.plan.seconds or 0) * steps_per_second))

    def _speed_of_autoencoder(self, recipe: Recipe, folder: Path) -> float:
        """Steps a second, of a few steps in a folder that is then removed; makes the cache if need be."""
        config, told = _rehearsal(recipe.autoencoder_training), Reporter(folder.name, self.study.say)
        model = replace(recipe.model, autoencoder=replace(recipe.model.autoencoder, init="published"))  # starts at once

        def report(step: StepReport) -> None:
            if step.stage != "autoencoder":
                told(step)
            elif step.step >= REHEARSED:
                raise Rehearsed(step.texts_per_second / config.batch_size)

        trial = folder / "rehearsal"
        recipe = replace(recipe, model=model, autoencoder_training=config)
        try:
            train(recipe, self.plan.data, trial, "autoencoder", report=report, device=self.device, cache=self.cache)
        except Rehearsed as found:
            return found.steps_per_second
        finally:
            shutil.rmtree(trial, ignore_errors=True)
        raise KeyboardInterrupt  # the process was asked to end

    def _speed_of_diffusion(self, recipe: Recipe) -> float:
        """Steps a second, on noise: the time does not depend on the numbers."""
        config, shape = _rehearsal(recipe.diffusion_training), latent_shape(recipe.model)
        latents = torch.randn(config.batch_size, *shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            denoiser = new_denoiser(recipe.model.denoiser, recipe.model.schedule, shape).to(self.device)
        normaliser = Normaliser(*shape).to(self.device)
        stage = DiffusionStage(denoiser, recipe.model, normaliser, latents, latents[:0], config.batch_size)
        with TemporaryDirectory() as folder:
            last = next(step for step in fit(stage, config, Path(folder)) if step.step >= REHEARSED)
        return last.texts_per_second / stage.texts_per_step


class Rehearsed(Exception):
    """Enough steps to know the speed; what they trained is thrown away."""

    def __init__(self, steps_per_second: float):
        super().__init__(steps_per_second)
        self.steps_per_second = steps_per_second


def with_steps(recipe: Recipe, steps: dict[str, int]) -> Recipe:
    """The recipe with these steps, and a warm-up and an average of weights that suit them."""
    found = {f"{stage}_training": _fitted(getattr(recipe, f"{stage}_training"), n) for stage, n in steps.items()}
    return replace(recipe, **found)


def _fitted(config: FitConfig, steps: int) -> FitConfig:
    return replace(
        config,
        steps=steps,
        warmup=min(config.warmup, steps // 10),
        ema=min(config.ema, max(0.0, 1 - 10 / steps)),  # of the last tenth, in a short training
        log_every=min(config.log_every, max(1, steps // 10)),
        valid_every=steps,
    )


def _rehearsal(config: FitConfig) -> FitConfig:
    """More steps than are made: the last one would be validated, which takes longer than all of them."""
    steps = 1000 * REHEARSED
    return replace(config, steps=steps, log_every=REHEARSED // 2, valid_every=steps, compile=False)


def latent_shape(config: Config) -> tuple[int, int]:
    """(slots, width) of the latents that the denoiser sees."""
    auto = config.autoencoder
    width = config.normaliser.pca_width or auto.latent_width or auto.width
    return auto.num_latents, width or open_backbone(config.backbone).width


class Reporter:
    """A line of progress at the start and the end of each stage."""

    def __init__(self, name: str, say: Callable[[str], None]):
        self.name, self.say, self.stage = name, say, ""

    def __call__(self, step: StepReport) -> None:
        if step.stage != self.stage or step.step == step.steps:
            figures = "  ".join(f"{name} {value:.3f}" for name, value in step.metrics.items())
            self.say(f"{self.name}: {step.stage} {step.step}/{step.steps}  {figures}".rstrip())
        self.stage = step.stage


def take_latents(source: Path, folder: Path) -> None:
    """Let ``folder`` have the latents of ``source`` (links, no copies), so that training finds them made."""
    for split in ("train", "valid"):
        there = folder / "latents" / split
        if not there.is_dir():
            shutil.copytree(source / "latents" / split, there, copy_function=os.link)


def describe(folder: Path) -> Variant:
    """What the stages in ``folder`` took, from their states and journals."""
    steps, seconds = {}, {}
    for stage in ("autoencoder", "diffusion"):
        path = folder / stage / STATE_FILE
        if path.is_file():
            header = read_header(path)
            steps[stage], seconds[stage] = int(header["step"]), float(header["seconds"])
    records = read_journal(folder / "autoencoder" / "journal.jsonl")
    accuracy = next((r["valid_accuracy"] for r in reversed(records) if "valid_accuracy" in r), None)
    return Variant(folder, steps, seconds, accuracy)


def measure(work: Study, trained: Variant) -> dict[str, Any] | None:
    """Reconstruction of held-out texts, and the quality and speed of new ones."""
    model, identity = open_model(trained.folder, work.plan)

    def measured() -> dict[str, Any]:
        count, seed = work.plan.count, work.plan.seed
        spent, texts = seconds(lambda: model.sample(count, seed=seed))
        originals = work.held_out[1]
        back = model.reconstruct(originals)
        lengths = model.tokenizer.tokenize(originals, model.config.autoencoder.max_length).mask.sum(1).tolist()
        right = [found.token_accuracy * n for found, n in zip(back, lengths, strict=True)]
        return {
            **work.quality(texts),
            "seconds_per_text": spent / count,
            "token_accuracy": asdict(bootstrap_ratio(right, lengths)),
            "bleu": asdict(bleu([found.reconstruction for found in back], originals)),
        }

    return work.once(f"quality-{trained.folder.name}", identity, measured)


def budget(plan: TrainingPlan) -> str:
    """How long each variant was trained, in a sentence."""
    if plan.seconds is None:
        return "Every variant makes the same steps."
    return f"Every stage of every variant has {plan.seconds:g} seconds, and makes the steps that fit into them."


def budget_options(plan: TrainingPlan) -> list[str]:
    """The same for the page's command."""
    return [] if plan.seconds is None else ["--seconds-per-stage", f"{plan.seconds:g}"]


def described(recipe: Recipe) -> str:
    """The sizes that the variants share, in a sentence."""
    auto, denoiser = recipe.model.autoencoder, recipe.model.denoiser
    return (
        f"Encoder {recipe.model.backbone.name}, {auto.max_length} positions; a compressor of {auto.compressor_depth} and a "
        f"decompressor of {auto.decompressor_depth} layers, a denoiser of {denoiser.depth} layers of {denoiser.width}"
        f"{' that starts from the linear guess' if denoiser.linear_rank else ''}; "
        f"{recipe.model.sampler.steps} steps of {recipe.model.sampler.solver}."
    )
