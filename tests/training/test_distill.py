"""Students: nearer to their teacher's end in a few steps than it is itself, and made by whole runs that stop and go on."""

import dataclasses
import json
import shutil
import signal
from copy import deepcopy
from itertools import pairwise

import pytest
import torch
from torch import nn

from diffusion import gaussian
from textcosm.config import Config
from textcosm.diffusion.denoiser import Denoiser, DenoiserConfig
from textcosm.diffusion.sampling import SamplerConfig, seeds_of, trajectory
from textcosm.errors import ConfigError, TrainingError
from textcosm.latent.normaliser import Normaliser
from textcosm.pipeline import TextDiffusion
from textcosm.training.distill import DistillConfig, distill, lessons_of, walk_of
from textcosm.training.distilled_stages import DistillationStage, Lesson
from textcosm.training.fit import FitConfig, fit
from textcosm.training.journal import read_journal
from textcosm.training.state import load_trained
from textcosm.training.train import train
from training.conftest import write_corpus, write_pairs

SHAPE = (2, 8)


class Known(Denoiser):
    """The exact denoiser of the Gaussian, and an affine correction to learn for each time, which is none at the start."""

    def __init__(self):
        super().__init__(DenoiserConfig(width=2, depth=1, heads=1, ff_width=1), SHAPE[1])
        self.correction = nn.Linear(64, 2, bias=False)
        nn.init.zeros_(self.correction.weight)
        self.calls = []

    def forward(self, noisy, time, self_condition=None, memory=None):
        self.calls.append((noisy, time, self_condition))
        bumps = torch.exp(-((64 * time[:, None] - torch.arange(64) - 0.5) ** 2))
        scale, shift = self.correction(bumps)[:, :, None, None].unbind(1)
        return gaussian.denoise(noisy, time) + scale * noisy + shift


def known():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Known()


def lessons(method="progressive", steps=4, walk=32):
    times = tuple(SamplerConfig(walk, end_time=0.05).times(gaussian.SCHEDULE))
    if method == "consistency":
        return [Lesson(times, walk // steps, "consistency")]
    found = []
    while len(times) > steps:
        found.append(Lesson(times))
        times = found[-1].visit
    return found


def stage_of(student, teacher, lesson, batch_size=64):
    raw = gaussian.MEAN + gaussian.SPREAD * torch.randn(512, *SHAPE, generator=torch.Generator().manual_seed(1))
    config = Config(schedule=gaussian.SCHEDULE)
    return DistillationStage(student, teacher, lesson, config, Normaliser(*SHAPE), raw, raw[:32], batch_size)


def end(denoiser, times):
    sampler = SamplerConfig(len(times), "ddim", visit=tuple(times))
    return list(trajectory(denoiser, gaussian.SCHEDULE, sampler, seeds_of(0, 64), SHAPE))[-1].clean


# --- what is taught


def test_every_student_visits_every_second_time_of_its_teacher():
    chain = lessons()
    assert [len(lesson.visit) for lesson in chain] == [16, 8, 4]
    assert all(later.times == lesson.visit for lesson, later in pairwise(chain))
    assert chain[-1].visit == lessons("consistency")[0].visit == chain[0].times[::8]


@pytest.mark.parametrize("method", ["progressive", "consistency"])
def test_the_target_takes_one_step_where_two_guesses_lead(method):
    """By the steps themselves, not by the formula of the shares."""
    (lesson,) = lessons(method, steps=4, walk=8 if method == "progressive" else 16)
    process = gaussian.process()
    x, first, second = torch.tensor([0.3, -1.2, 0.8], dtype=torch.float64)[:, None, None].unbind()
    x, first, second = (value.view(1, 1, 1) for value in (x, first, second))
    for i, share in enumerate(lesson.shares(gaussian.SCHEDULE)):
        after = (i // lesson.stride + 1) * lesson.stride
        target = torch.lerp(second, first, share)
        if after < len(lesson.times):
            t, s, b = lesson.times[i], lesson.times[i + 1], lesson.times[after]
            there = process.move(x, first, t, s)
            there = there if s == b else process.move(there, second, s, b)
            torch.testing.assert_close(process.move(x, target, t, b), there)
        else:
            torch.testing.assert_close(target, first if i + 1 == len(lesson.times) else second)


@pytest.mark.parametrize("method", ["progressive", "consistency"])
def test_samples_stand_where_the_students_own_walk_leads(method):
    """20 rows: 2 are kept below the walk, and 18 are spread over it, of which the first step's have no self-condition."""
    teacher, student = known(), known()
    (lesson,) = lessons(method, 3, 6)
    stage = stage_of(student, teacher, lesson, batch_size=20)
    stage.loss(3)
    (before, time_before, nothing), *others, (noisy, times, guess) = student.calls
    assert nothing is None and len(before) == 12 and len(others) == (method == "consistency")
    visited = lesson.visit if method == "progressive" else lesson.times
    assert sorted(set(times[2:].tolist()), reverse=True) == pytest.approx(visited)
    assert torch.equal(guess[:8], torch.zeros(8, *SHAPE)) and (times[2:8] >= lesson.times[1] - 1e-6).all()
    last = gaussian.denoise(before, time_before)
    torch.testing.assert_close(guess[8:], last)
    for row, (t, s) in enumerate(zip(time_before.tolist(), times[8:].tolist(), strict=True)):
        there = gaussian.process().move(before[[row]], last[[row]], t, s)
        torch.testing.assert_close(noisy[[8 + row]], there, atol=1e-4, rtol=1e-4)
    first, *second = teacher.calls
    assert torch.equal(first[0], noisy) and torch.equal(first[2], guess)
    assert len(second) == (method == "progressive")
    if second:  # it carries its own guess
        torch.testing.assert_close(second[0][2], gaussian.denoise(first[0], first[1]))


@pytest.mark.parametrize("method", ["progressive", "consistency"])
def test_below_the_walk_the_teachers_guess_is_kept(method):
    teacher, student = known(), known()
    (lesson,) = lessons(method, 4, 8)
    stage = stage_of(student, teacher, lesson, batch_size=40)
    stage.loss(0)
    noisy, times, guess = student.calls[-1]
    below = times[:4].tolist()
    assert min(below) == pytest.approx(1e-5) and max(below) < lesson.visit[-1] and len(set(below)) == 4
    assert torch.equal(guess[:4], torch.zeros(4, *SHAPE))
    assert (stage.shares[len(lesson.times) :] == 1).all() and (stage.weights <= 5).all()


def test_a_step_depends_on_its_number_alone():
    teacher = known()
    one, other = (stage_of(deepcopy(teacher), teacher, lessons()[0]) for _ in range(2))
    losses = [one.loss(step)["loss"].item() for step in range(4)]
    assert [other.loss(step)["loss"].item() for step in (3, 0)] == [losses[3], losses[0]]
    with torch.no_grad():
        assert one.validate() == other.validate() and one.validate()["loss"] > 0


@pytest.mark.parametrize("method", ["progressive", "consistency"])
def test_a_student_of_4_steps_is_nearer_to_the_end_of_32_than_its_teacher_in_4(method, tmp_path):
    config = FitConfig(
        steps=120, batch_size=32, learning_rate=2e-2, final_learning_rate=1e-4, warmup=10, weight_decay=0.0,
        precision="float32",
    )  # fmt: skip
    chain = lessons(method)
    if method == "consistency":
        config = dataclasses.replace(config, steps=600)
    teacher = known()
    goal = end(teacher, chain[0].times)
    plain = end(teacher, SamplerConfig(4, end_time=0.05).times(gaussian.SCHEDULE))
    master = teacher
    for lesson in chain:
        student = deepcopy(master).requires_grad_(True)
        folder = tmp_path / str(len(lesson.visit))
        list(fit(stage_of(student, master, lesson), config, folder))
        load_trained(student, folder)
        master = student.eval().requires_grad_(False)
    error, before = ((found - goal).square().mean().sqrt().item() for found in (end(master, chain[-1].visit), plain))
    assert error < before / {"progressive": 20, "consistency": 1.5}[method]


def test_the_journal_counts_the_teachers_passes_too():
    stage = stage_of(known(), known(), lessons(walk=8)[0])
    numbers, vectors = sum(m.weight.numel() for m in stage.module.modules() if isinstance(m, nn.Linear)), SHAPE[0]
    assert stage.flop_per_text == (6 + 2 * 2.75) * numbers * vectors


# --- how many steps


@pytest.mark.parametrize(
    ("steps", "own", "walk"), [(8, 25, 32), (8, 50, 32), (4, 10, 16), (8, 4, 16), (1, 25, 32), (3, 25, 24), (16, 1, 32)]
)
def test_the_walk_that_is_halved(steps, own, walk):
    assert walk_of(steps, own) == walk


@pytest.mark.parametrize("steps", [0, 17, -1])
def test_steps_out_of_reach(steps):
    with pytest.raises(ConfigError, match=f"--steps {steps} is out of reach: .*give 1 to 16"):
        DistillConfig(steps)


# --- whole runs


QUICK = FitConfig(steps=3, batch_size=8, learning_rate=1e-3, warmup=1, log_every=1, valid_every=3, ema=0.9)


def config_of(steps=8, **changed):
    return DistillConfig(**{"steps": steps, "fit": QUICK, **changed})


def losses(out):
    timing = {"texts_per_second", "seconds", "gflop_per_second"}
    return [
        {k: v for k, v in record.items() if k not in timing}
        for journal in sorted(out.glob("*/journal.jsonl"))
        for record in read_journal(journal)
    ]


@pytest.fixture(scope="module")
def distilled(finished_run, tmp_path_factory):
    """A teacher's run and its student of 8 steps; tests take copies."""
    out, reports = tmp_path_factory.mktemp("distilled") / "out", []
    result = distill(finished_run[0], out, config_of(), report=reports.append, device="cpu")
    assert result.finished and result.model == out / "model" and result.notes == ()
    assert list(dict.fromkeys(report.stage for report in reports)) == ["16 steps", "8 steps"]
    return finished_run[0], out


def test_a_student_is_a_model_of_few_steps(distilled):
    run, out = distilled
    teacher, student = (TextDiffusion.load(folder, device="cpu") for folder in (run, out))
    visit = SamplerConfig(32, end_time=teacher.config.sampler.end_time).times(teacher.config.schedule)[::4]
    assert student.config.sampler == SamplerConfig(8, "ddim", visit[-1], visit=tuple(visit))
    assert [point.time for point in student.trace(2)] == visit
    weight = "blocks.0.body.attention.enter.weight"
    assert not torch.equal(*(dict(model.denoiser.named_parameters())[weight] for model in (teacher, student)))
    assert torch.equal(teacher.autoencoder.token_head.weight, student.autoencoder.token_head.weight)
    assert len(student.sample(2)) == len(student.sample(2, steps=5)) == 2
    assert TextDiffusion.load(out / "16", device="cpu").config.sampler.steps == 16


def test_the_record_tells_of_the_teacher(distilled):
    run, out = distilled
    record = TextDiffusion.load(out, device="cpu").record
    told, teacher = record["distillation"], TextDiffusion.load(run, device="cpu")
    assert (told["steps"], told["method"], told["guidance"]) == (8, "progressive", 1.0)
    assert told["teacher"]["steps"] == record["diffusion"]["steps"] == 6 and told["teacher"]["walk"] == 32
    assert told["students"]["16"]["steps"] == told["students"]["8"]["steps"] == 3
    from textcosm.evaluation.subject import of_model

    assert told["teacher"]["sha256"] == of_model(teacher, "teacher").manifest["sha256"]
    assert not {"metrics", "notes", "command"} & record.keys() and record["data"] == teacher.record["data"]


def test_stopped_anywhere_it_goes_on_to_the_same_losses(distilled, tmp_path):
    run, whole = distilled
    finished, calls = False, 0
    while not finished:
        count = 0

        def interrupt(report):
            nonlocal count
            count += 1
            if count == 2:
                signal.raise_signal(signal.SIGTERM)

        finished = distill(run, tmp_path / "parts", config_of(), report=interrupt, device="cpu").finished
        calls += 1
    assert calls > 2 and losses(tmp_path / "parts") == losses(whole)
    one, other = (TextDiffusion.load(folder, device="cpu") for folder in (whole, tmp_path / "parts"))
    assert one.sample(2) == other.sample(2)


def test_fewer_steps_go_on_from_the_students_that_are_there(distilled, tmp_path):
    run, whole = distilled
    out, reports = shutil.copytree(whole, tmp_path / "out"), []
    assert distill(run, out, config_of(4), report=reports.append, device="cpu").finished
    assert {report.stage for report in reports} == {"4 steps"}
    assert TextDiffusion.load(out, device="cpu").config.sampler.steps == 4
    with pytest.raises(TrainingError, match="was made with fit.learning_rate = 0.001, not 0.5; give another folder"):
        distill(run, out, config_of(4, fit=dataclasses.replace(QUICK, learning_rate=0.5)), device="cpu")


def test_consistency_is_one_lesson(finished_run, tmp_path):
    assert distill(finished_run[0], tmp_path / "out", config_of(2, method="consistency"), device="cpu").finished
    teacher, student = (TextDiffusion.load(folder, device="cpu") for folder in (finished_run[0], tmp_path / "out"))
    assert [folder.name for folder in sorted((tmp_path / "out").iterdir())] == ["2", "model"]
    (lesson,) = lessons_of(config_of(2, method="consistency"), teacher)
    assert student.config.sampler.visit == lesson.visit == lesson.times[::16]
    reports = []
    with pytest.raises(TrainingError, match="2 was made with lesson.times = .*; give another folder"):
        distill(finished_run[0], tmp_path / "out", config_of(2), report=reports.append, device="cpu")
    assert not reports  # before the first halving


# --- texts that answer sources


@pytest.fixture(scope="module")
def answering_run(paired_recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("paired")
    recipe = dataclasses.replace(paired_recipe, adapt_decoder=False)
    assert train(recipe, write_pairs(folder), folder / "run", device="cpu").finished
    return folder / "run"


def test_guidance_becomes_part_of_a_conditional_student(answering_run, tmp_path):
    outs = {w: tmp_path / f"{w}" for w in (1.0, 2.0)}
    for w, out in outs.items():
        assert distill(answering_run, out, config_of(guidance=w), device="cpu").finished
    student = TextDiffusion.load(outs[2.0], device="cpu")
    assert student.config.sampler.guidance == 1.0 and student.record["distillation"]["guidance"] == 2.0
    assert len(student.sample(source=["Ann has 3 big cats at home"])) == len(student.sample(1)) == 1
    first = [read_journal(out / "16" / "journal.jsonl")[0]["loss"] for out in outs.values()]
    assert first[0] != first[1]


def test_the_teacher_is_guided_and_the_student_is_not(answering_run, tmp_path, monkeypatch):
    rows = []
    forward = Denoiser.forward

    def counting(self, noisy, *rest, **named):
        rows.append((self.training, len(noisy)))
        return forward(self, noisy, *rest, **named)

    monkeypatch.setattr(Denoiser, "forward", counting)
    distill(answering_run, tmp_path / "out", config_of(guidance=2.0), max_seconds=0, device="cpu")
    assert not rows
    fit = dataclasses.replace(QUICK, steps=1, valid_every=5)
    distill(answering_run, tmp_path / "one", config_of(fit=fit, guidance=2.0), device="cpu")
    of_teacher = [n for training, n in rows if not training]
    assert of_teacher[:2] == [16, 16] and (True, 8) in rows


def test_sources_that_are_gone(answering_run, tmp_path):
    with pytest.raises(TrainingError, match="does not hold the sources of this run; give --cache"):
        distill(answering_run, tmp_path / "out", config_of(), cache=tmp_path, device="cpu")


# --- teachers that are none


@pytest.fixture
def own_run(finished_run, tmp_path):
    return shutil.copytree(finished_run[0], tmp_path / "run")


def test_a_model_alone_is_no_teacher(own_run, tmp_path):
    for folder in (own_run / "model", tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="is not the folder of a training run .it holds no latents.: give what"):
            distill(folder, tmp_path / "out", config_of(), device="cpu")
    shutil.rmtree(own_run / "diffusion")
    with pytest.raises(TrainingError, match="has no trained diffusion to learn from"):
        distill(own_run, tmp_path / "out", config_of(), device="cpu")


def test_a_run_that_is_still_training(own_run, tmp_path):
    path = own_run / "diffusion" / "settings.json"
    settings = json.loads(path.read_text())
    settings["diffusion_training"]["steps"] = 60
    path.write_text(json.dumps(settings))
    with pytest.raises(TrainingError, match="is still training: its diffusion stands at step 6 of 60; let it finish, or"):
        distill(own_run, tmp_path / "out", config_of(), device="cpu")
    result = distill(own_run, tmp_path / "out", config_of(), anyway=True, device="cpu")
    assert result.finished and result.notes == (
        "the teacher is distilled before its training ended: its diffusion stands at step 6 of 60",
    )
    shutil.rmtree(own_run / "model")
    with pytest.raises(TrainingError, match="holds no model yet; let its training finish, or repeat its command with"):
        distill(own_run, tmp_path / "out", config_of(), anyway=True, device="cpu")


def test_a_teacher_without_an_average(recipe, tmp_path):
    plain = dataclasses.replace(recipe, diffusion_training=dataclasses.replace(recipe.diffusion_training, ema=0.0))
    train(plain, write_corpus(tmp_path), tmp_path / "run", device="cpu")
    result = distill(tmp_path / "run", tmp_path / "out", config_of(), device="cpu")
    assert result.finished and "without an average of its weights" in result.notes[0]


def test_what_cannot_be(own_run, tmp_path):
    with pytest.raises(ConfigError, match="is the teacher's own folder"):
        distill(own_run, own_run, config_of(), device="cpu")
    with pytest.raises(ConfigError, match="--guidance 2 weighs the source, and this model reads none"):
        distill(own_run, tmp_path / "out", config_of(guidance=2.0), device="cpu")
    shutil.rmtree(own_run / "latents" / "valid")
    with pytest.raises(TrainingError, match="valid is gone, and the student learns from it"):
        distill(own_run, tmp_path / "out", config_of(), device="cpu")
