"""From a training run to a student that writes in a few steps what its teacher writes in many.

::

    OUT/16/     state.safetensors journal.jsonl settings.json model/   the student of 16 steps, whose teacher walks 32
    OUT/8/      the same, of 8 steps, whose teacher is the student of 16
    OUT/model/  the last of them: what TextDiffusion.load reads

Consistency distillation has one such folder. A later call for fewer steps goes on from the students that are there.
"""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from textcosm.checkpoint import read_index
from textcosm.diffusion.denoiser import Denoiser
from textcosm.errors import ConfigError, TrainingError
from textcosm.evaluation.subject import fingerprint
from textcosm.pipeline import TextDiffusion, best_device
from textcosm.text.backbone import open_backbone
from textcosm.training.cache import TextStore, is_made, open_rows, read_meta
from textcosm.training.corpus import normalised
from textcosm.training.distilled_stages import DistillationStage, Lesson, Method
from textcosm.training.export import made_with, reached
from textcosm.training.fit import FitConfig, StepReport, fit
from textcosm.training.recipe import fit_settings
from textcosm.training.run import claim, has_room, is_done, stop_requests
from textcosm.training.stages import Sources
from textcosm.training.state import STATE_FILE, load_trained, read_header
from textcosm.training.train import COMPILED_MULTIPLE, Splits

MOST_STEPS = 32
"""Of the teacher's walk: from here its own ends differ little from those of more steps."""

# A text costs the student 4 forward passes' worth (1 forward, backward 2, its own guess before 1), the teacher 2: 6,
# where training costs 3.5. On two CPU cores stories-16 trains on some 70 texts a second, so 40 here: 400 batches of 64
# are 25,600 texts, and ten to eleven minutes for each halving.
DISTILLATION_FIT = FitConfig(
    steps=400, batch_size=64, learning_rate=3e-4, final_learning_rate=1e-5, warmup=20, weight_decay=0.01, clip=1.0,
    ema=0.98, log_every=20, valid_every=200,
)  # fmt: skip

OF_THE_TEACHER_ALONE = ("command", "metrics", "notes")
"""Parts of a model's record that do not hold for its student."""


@dataclass(frozen=True)
class DistillConfig:
    """What ``distill`` makes of a teacher; two equal ones make the same student of the same teacher."""

    steps: int = 8
    """Of the student; the teacher's walk of at most 32 is halved until it has so many (or cut into as many segments)."""
    method: Method = "progressive"
    guidance: float | None = None
    """Weight of the source in what the student imitates; None: the teacher's own."""
    fit: FitConfig = field(default_factory=lambda: DISTILLATION_FIT)
    """Of each halving."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ConfigError(f"method {self.method!r} is unknown; choose one of {', '.join(get_args(Method))}")
        walk_of(self.steps, 1)


@dataclass(frozen=True)
class Distilled:
    """What a call reached. Not finished: the same call goes on."""

    finished: bool
    model: Path | None
    """The folder of the student, once there is one."""
    notes: tuple[str, ...]
    """What the reader must know of the teacher."""


@dataclass(frozen=True)
class Teacher:
    """A training run as the student needs it: the model with its averaged weights, and what that was trained on."""

    model: TextDiffusion
    latents: tuple[Tensor, Tensor]
    """Raw latents ``(texts, slots, width)`` for training and for validation."""
    sources: Splits
    about: dict[str, Any]
    """For the student's record."""
    notes: tuple[str, ...]


def distill(
    run: str | Path,
    out: str | Path,
    config: DistillConfig,
    *,
    anyway: bool = False,
    report: Callable[[StepReport], None] = lambda step: None,
    max_seconds: float | None = None,
    device: str | torch.device | None = None,
    cache: str | Path | None = None,
    tensorboard: bool = False,
) -> Distilled:
    """Teach a student the walk of the model of the training run ``run``; the same call continues where one stopped.

    anyway: take a teacher whose training has not ended. The other options are those of ``train``; the cache is the run's.

    Raises ConfigError (steps out of reach, no folder of a run, guidance without sources), TrainingError (a run that is
    still training, other settings in the same folder, a loss that is not a number).
    """
    run, out = Path(run).expanduser(), Path(out).expanduser()
    if run.resolve() == out.resolve():
        raise ConfigError(f"{out} is the teacher's own folder, whose model would be replaced; give the student another")
    target = torch.device(device) if device is not None else best_device()
    teacher = open_teacher(run, target, Path(cache).expanduser() if cache else run / "cache", config, anyway)
    with stop_requests(max_seconds) as stop:
        finished = _learn(teacher, out, config, stop, tensorboard, report)
    model = out / "model"
    return Distilled(finished, model if model.is_dir() else None, teacher.notes)


def walk_of(steps: int, own: int) -> int:
    """Points of the teacher's walk: the first number that halvings take to ``steps`` and that is no less than its ``own``.

    At most MOST_STEPS, at least twice ``steps``; ConfigError where that cannot be.
    """
    if not 1 <= steps <= MOST_STEPS // 2:
        raise ConfigError(
            f"--steps {steps} is out of reach: a student has half of the {MOST_STEPS} steps of its teacher or fewer; give 1 to "
            f"{MOST_STEPS // 2}"
        )
    count = 2 * steps
    while count < own and 2 * count <= MOST_STEPS:
        count *= 2
    return count


def lessons_of(config: DistillConfig, model: TextDiffusion) -> list[Lesson]:
    """The halvings, first to last, or the one lesson of consistency distillation."""
    own = model.config.sampler
    walk = replace(own, steps=walk_of(config.steps, own.steps), final="clean", visit=())
    times = tuple(walk.times(model.config.schedule))
    if config.method == "consistency":
        return [Lesson(times, len(times) // config.steps, "consistency")]
    lessons = []
    while len(times) > config.steps:
        lessons.append(Lesson(times))
        times = lessons[-1].visit
    return lessons


# --- teaching


def _learn(
    teacher: Teacher,
    out: Path,
    config: DistillConfig,
    stop: Callable[[], bool],
    tensorboard: bool,
    report: Callable[[StepReport], None],
) -> bool:
    """One lesson after the other, each student the next one's teacher; False where it was stopped."""
    guidance = _guidance(teacher.model, config.guidance)
    lessons = {out / str(len(lesson.visit)): lesson for lesson in lessons_of(config, teacher.model)}
    for folder, lesson in lessons.items():  # all of them before the first, which takes minutes
        claim(folder, _settings(teacher, lesson, guidance, config))
    master, reports = teacher.model.denoiser, {}
    for folder, lesson in lessons.items():
        student = deepcopy(master).requires_grad_(True)
        if not is_done(folder, config.fit):
            model = teacher.model
            stage = DistillationStage(
                student, master, lesson, model.config, model.normaliser, *teacher.latents, config.fit.batch_size,
                config.seed, teacher.sources, guidance,
            )  # fmt: skip
            if not _fitted(fit(stage, config.fit, folder, seed=config.seed, stop=stop, tensorboard=tensorboard), report):
                return False
        load_trained(student, folder)
        reports[folder.name] = reached(folder)
        made = _student(teacher, student, lesson, config, dict(reports))
        for place in (folder, out):  # the last one stays
            made.save(place / "model")
        master, guidance = made.denoiser, 1.0  # a student has the guidance in it
    return True


def _fitted(steps: Iterator[StepReport], report: Callable[[StepReport], None]) -> bool:
    """Tell the reports of a fit; whether it came to its end."""
    while True:
        try:
            report(next(steps))
        except StopIteration as end:
            return bool(end.value)


def _guidance(model: TextDiffusion, asked: float | None) -> float:
    if not model.reads_sources:
        if asked not in (None, 1.0):
            raise ConfigError(f"--guidance {asked:g} weighs the source, and this model reads none: leave it out")
        return 1.0
    return replace(model.config.sampler, guidance=asked).guidance if asked is not None else model.config.sampler.guidance


def _settings(teacher: Teacher, lesson: Lesson, guidance: float, config: DistillConfig) -> dict[str, Any]:
    """Nothing of the steps that are wanted in the end: a student of fewer goes on from this one."""
    return {
        "teacher": teacher.about["denoiser"],
        "lesson": asdict(lesson),
        "guidance": guidance,
        "fit": fit_settings(config.fit),
        "seed": config.seed,
    }


def _student(
    teacher: Teacher, denoiser: Denoiser, lesson: Lesson, config: DistillConfig, trained: dict[str, Any]
) -> TextDiffusion:
    """The teacher with another denoiser, the walk that this was taught, and the record of how."""
    model, visit = teacher.model, lesson.visit
    own = model.config.sampler
    end = visit[-1] if len(visit) > 1 else own.end_time
    sampler = replace(own, steps=len(visit), solver="ddim", end_time=end, final="clean", guidance=1.0, visit=visit)
    record = {name: value for name, value in model.record.items() if name not in OF_THE_TEACHER_ALONE}
    record["distillation"] = {
        "teacher": teacher.about,
        "method": config.method,
        "steps": len(visit),
        "guidance": _guidance(model, config.guidance),
        "seed": config.seed,
        "fit": asdict(config.fit),
        "students": trained,
        **made_with(model.device),
    }
    return TextDiffusion(
        replace(model.config, sampler=sampler),
        model.autoencoder,
        model.normaliser,
        denoiser,
        model.tokenizer,
        model.backbone_fingerprint,
        record,
        model.ngrams,
    )


# --- the teacher's run


def open_teacher(run: Path, device: torch.device, cache: Path, config: DistillConfig, anyway: bool = False) -> Teacher:
    """The model, the latents and the sources of a run; raises ConfigError and TrainingError, see :func:`distill`."""
    settings, step, wanted = _trained(run)
    notes = []
    if step < wanted:
        standing = f"its diffusion stands at step {step} of {wanted}"
        if not anyway:
            raise TrainingError(f"{run} is still training: {standing}; let it finish, or give --anyway to distil it as it is")
        notes.append(f"the teacher is distilled before its training ended: {standing}")
    if not (run / "model" / "config.json").is_file():
        raise TrainingError(f"{run} holds no model yet; let its training finish, or repeat its command with --stage export")
    model = TextDiffusion.load(run, device)
    load_trained(model.denoiser, run / "diffusion")
    if not settings["diffusion_training"]["ema"]:
        notes.append("the teacher was trained without an average of its weights: the student learns from the last ones")
    modules = {"autoencoder": model.autoencoder, "normaliser": model.normaliser, "denoiser": model.denoiser}
    about = {
        "name": run.resolve().name,
        "sha256": fingerprint(modules),  # as in the manifest of an evaluation
        "denoiser": fingerprint({"denoiser": model.denoiser}),
        "steps": step,
        "walk": len(lessons_of(config, model)[0].times),
    }
    latents = _latents(run, settings["latents"], device)
    sources = _sources(model, run, cache, settings["sources"], config, latents) if "sources" in settings else (None, None)
    return Teacher(model, latents, sources, about, tuple(notes))


def _trained(run: Path) -> tuple[dict[str, Any], int, int]:
    """The settings of the run's diffusion, the step where it stands, and the one where it ends."""
    folder = run / "diffusion"
    if not (run / "latents").is_dir():
        raise ConfigError(
            f"{run} is not the folder of a training run (it holds no latents): give what textcosm train had as --out"
        )
    if not (folder / STATE_FILE).exists():
        raise TrainingError(f"{run} has no trained diffusion to learn from; go on with its training first")
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    wanted = settings["diffusion_training"].get("steps")
    if wanted is None and (run / "model" / "config.json").is_file():  # a constant schedule: the recipe alone says
        wanted = read_index(run / "model")["metadata"]["record"]["recipe"]["diffusion_training"]["steps"]
    return settings, int(read_header(folder / STATE_FILE)["step"]), wanted or 0


def _latents(run: Path, settings: dict[str, Any], device: torch.device) -> tuple[Tensor, Tensor]:
    train, valid = (_rows(run / "latents" / split, made) for split, made in _splits(settings, settings["texts"]))
    return (train.to(device), valid.to(device)) if has_room(device, train.nbytes + valid.nbytes) else (train, valid)


def _splits(settings: dict[str, Any], texts: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings of training data, for each split."""
    for split in ("train", "valid"):
        of_split = {**texts, "split": split}
        yield split, ({**settings, "texts": of_split} if "texts" in settings else of_split)


def _rows(folder: Path, settings: dict[str, Any]) -> Tensor:
    if not is_made(folder, settings):
        raise TrainingError(f"{folder} is gone, and the student learns from it: repeat the command that trained the run")
    return open_rows(folder)


def _source_latents(model: TextDiffusion, folder: Path, sources: dict[str, Any]) -> Tensor:
    """Normalised latents of the sources, as the run's training made them."""
    digest = read_meta(folder.parent / "train")["settings"]["autoencoder"]
    raw = _rows(folder, {"texts": sources, "autoencoder": digest})
    return normalised(raw, model.normaliser, model.device)


def _sources(
    model: TextDiffusion, run: Path, cache: Path, settings: dict[str, Any], config: DistillConfig, latents: tuple[Tensor, Tensor]
) -> Splits:
    """What the texts answer, from the cache that the run has them in."""
    backbone = open_backbone(model.config.backbone, model.device)
    model.use_backbone(backbone)
    multiple = COMPILED_MULTIPLE if config.fit.compile else 1
    found: list[Sources] = []
    reads_latents = model.config.denoiser.source_latents
    for (split, made), rows in zip(_splits(settings, settings), latents, strict=True):
        folder, activations = cache / f"{split}-sources", cache / f"{split}-sources-activations"
        if not is_made(folder, made):
            raise TrainingError(f"{cache} does not hold the sources of this run; give --cache, as its training had it")
        store = TextStore(folder, activations if is_made(activations, made) else None)
        if len(store) != len(rows):
            raise TrainingError(f"{cache} holds {len(store)} sources and the run {len(rows)} texts; give --cache of the run")
        beside = _source_latents(model, run / "latents" / f"{split}-sources", made) if reads_latents else None
        found.append(Sources(store, backbone, multiple, model.config.source.max_length, beside))
    return found[0], found[1]
