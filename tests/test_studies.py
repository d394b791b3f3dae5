"""The studies in runs/, each from end to end over the tiny backbone, and again from where it stopped."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from textcosm.errors import DataError
from textcosm.evaluation.judges import Judge, Readings, Surprise
from textcosm.evaluation.report import Report
from textcosm.evaluation.results import Interval

RUNS = Path(__file__).parents[1] / "runs"
MODULES = ("page", "study", "variants", "compression", "fusion", "headline", "smoothness", "solvers", "width")
NAMES, VERBS, THINGS = ("Ann", "Tom", "Sue", "Ned"), ("sees", "likes", "finds"), ("a red cat", "the dog", "a big tree")
TEXTS = 20


def sentences(count, first=0):
    said = (f"{NAMES[i % 4]} {VERBS[i // 4 % 3]} {THINGS[i // 12 % 3]}{' and runs' * (i % 3)}" for i in range(first, 10**6))
    return [f"{text} {number}." for number, text in zip(range(count), said, strict=False)]


class CountingJudge(Judge):
    """A word costs as many nats as it has letters over four; features are letter counts; counts what it reads."""

    def __init__(self):
        self.name, self.texts = "counting", 0

    def read(self, texts, batch_tokens=1024, progress=lambda done: None, cache=None):
        self.texts += len(texts)
        costs = [Surprise(len(t) / 4, len(t.split())) if t.split() else None for t in texts]
        features = [[t.count(letter) + 0.01 * len(t) for letter in "aeinorst"] for t in texts]
        return Readings(costs, np.array(features, dtype=np.float32))


@pytest.fixture(autouse=True)
def runs(monkeypatch):
    """The scripts import one another by name, as they do when one of them is run."""
    monkeypatch.syspath_prepend(str(RUNS))
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.fixture
def judge(monkeypatch):
    judge = CountingJudge()
    monkeypatch.setattr(importlib.import_module("study"), "open_judge", lambda name, device="cpu": judge)
    return judge


@pytest.fixture
def files(tmp_path):
    """What every plan of a test holds."""
    (tmp_path / "train.txt").write_text("\n".join(sentences(80)), encoding="utf-8")
    (tmp_path / "test.txt").write_text("\n".join(sentences(2 * TEXTS, first=100)), encoding="utf-8")
    return {
        "test": tmp_path / "test.txt", "out": tmp_path / "out", "docs": tmp_path / "docs", "texts": TEXTS, "device": "cpu",
        "threads": torch.get_num_threads(),
    }  # fmt: skip


@pytest.fixture
def training(files, tmp_path):
    """The same for the studies that train."""
    return {**files, "data": tmp_path / "train.txt", "preset": "tiny", "seconds_per_stage": 0.05}


def rows_of(page, first):
    """The cells of the rows of a page whose first cell begins with ``first``."""
    lines = [line.strip("| ").split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    return [line for line in lines if line[0].startswith(first)]


def again(module, plan, judge):
    """Do the study twice; the second time must find everything done and write the same page."""
    said = []
    page = module.study(plan, said.append)
    text, read = page.read_text(encoding="utf-8"), judge.texts
    picture = page.with_suffix(".svg").read_bytes()
    before = len(said)
    assert module.study(plan, said.append) == page
    assert len(said) == before and judge.texts == read
    assert page.read_text(encoding="utf-8") == text and page.with_suffix(".svg").read_bytes() == picture
    assert str(plan.out.parent) not in text
    return page


# --- pages


def test_what_was_written_by_hand_stays_when_a_page_is_made_anew(tmp_path):
    page = importlib.import_module("page")
    said, table = ("What was measured.", "What the columns mean."), ["| a |"]
    first = page.write_page(tmp_path, "study", "A study", said, table, (), "python runs/study.py")
    kept = "<!-- by hand -->\n**What fails.** Names,\n\nand numbers.\n<!-- end -->"
    text = first.read_text(encoding="utf-8").replace("measured.\n", f"measured.\n\n{kept}\n")
    first.write_text(text, encoding="utf-8")
    again = page.write_page(tmp_path, "study", "A study", said, ["| b |"], (), "python runs/study.py")
    assert again.read_text(encoding="utf-8") == text.replace("| a |", "| b |")
    assert text.index("measured.") < text.index("**What fails.**") < text.index("What the columns mean.")


# --- solvers


@pytest.fixture
def little(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "little")
    return str(tmp_path / "little")


@pytest.mark.slow
def test_solvers_are_measured_once_and_stand_on_a_page(judge, files, little):
    solvers = importlib.import_module("solvers")
    plan = solvers.SolversPlan(
        **files, model=little, steps=(1, 5), solvers=("dpm++2m", "heun", "euler-maruyama"), end_times=(0.05, 0.4)
    )
    page = again(solvers, plan, judge)
    assert [row[1:5] for row in rows_of(page, "heun")] == [["5", "9", "0.05", "clean"]]
    assert [row[1:5] for row in rows_of(page, "dpm++2m")] == [
        ["1", "1", "0.05", "clean"], ["5", "5", "0.05", "clean"], ["5", "5", "0.4", "clean"], ["5", "5", "0.05", "mean"],
    ]  # fmt: skip
    assert len(rows_of(page, "real texts")) == 1
    assert page.with_suffix(".svg").read_text(encoding="utf-8").startswith("<?xml")


@pytest.mark.slow
def test_fusion_has_a_row_for_every_weight_and_for_n_grams_alone(judge, files, little):
    fusion = importlib.import_module("fusion")
    plan = fusion.FusionPlan(
        **files, model=little, train=files["test"].with_name("train.txt"), steps=2, weights=(0.0, 9.0), refine=(0, 1),
        beside=(f"{little}@3+1",),
    )  # fmt: skip
    page = again(fusion, plan, judge)
    rows = rows_of(page, "")
    assert [row[:2] for row in rows[2:6]] == [["0", "0"], ["9", "0"], ["0", "1"], ["9", "1"]]
    assert [row[0] for row in rows[6:]] == ["little-3+1", "n-grams alone", "real texts"] and rows[2][3] != rows[3][3]


def test_solvers_grid_of_the_full_size_has_every_solver_at_every_step(files):
    from textcosm.diffusion.sampling import SamplerConfig

    solvers = importlib.import_module("solvers")
    plan = solvers.SolversPlan(**{**files, "size": "full"})
    grid = solvers.settings(plan, SamplerConfig(end_time=0.4))
    assert len(grid) == len(set(grid))
    assert {(s.solver, s.steps) for s in grid if s.end_time == 0.4 and s.final == "clean"} >= {
        (solver, steps) for solver in plan.solvers for steps in plan.steps
    }
    assert {s.end_time for s in grid if s.steps == 20 and s.solver == "dpm++2m"} == set(solvers.END_TIMES)


def test_a_study_says_what_it_had_no_time_for(judge, files, little):
    solvers = importlib.import_module("solvers")
    plan = solvers.SolversPlan(**files, model=little, steps=(1,), solvers=("ddim",), max_minutes=0.0)
    page = solvers.study(plan, lambda line: None).read_text(encoding="utf-8").replace("\n", " ")
    assert "Not measured for want of time: ddim-1-0.05-clean, " in page and "real." in page
    assert judge.texts == 0


def test_studies_want_enough_held_out_texts(judge, files, little):
    solvers = importlib.import_module("solvers")
    with pytest.raises(DataError, match="holds 40 texts; --texts 30 needs twice"):
        solvers.study(solvers.SolversPlan(**{**files, "texts": 30}, model=little, steps=(1,)), lambda line: None)


# --- headline


def test_headline_has_a_row_for_every_system(judge, files, little, tmp_path, monkeypatch):
    headline = importlib.import_module("headline")
    monkeypatch.setattr(headline, "_peak_of", lambda system, plan: {"resident": 321.0, "cuda": None})
    metrics = {"mauve": Interval(0.5, 0.4, 0.6), "perplexity": Interval(9.0, 8.0, 10.0)}
    (tmp_path / "out" / "little-2").mkdir(parents=True)
    report = Report("little-2", {"n": 9}, metrics, {}, {}, {}).to_dict()
    (tmp_path / "out" / "little-2" / "report.json").write_text(json.dumps(report), encoding="utf-8")
    plan = headline.HeadlinePlan(**files, systems=(little, f"{little}@1"), train=tmp_path / "train.txt", steps=(2, 3), rounds=1)
    page = again(headline, plan, judge)
    quality, arithmetic = rows_of(page, "little-2")
    assert quality[1:3] == ["0.500 [0.400, 0.600]", "9.0 [8.0, 10.0]"]
    assert arithmetic[3:5] == ["2", "8"]
    assert [row[0] for row in rows_of(page, "little")] == ["little-2", "little-3", "little-1"] * 2
    assert all(float(row[5]) > 0 and row[7] == "321" for row in rows_of(page, "little")[:3])


# --- studies that train


@pytest.mark.slow
def test_compression_trains_and_measures_every_number_of_latents(judge, training):
    compression = importlib.import_module("compression")
    page = again(compression, compression.CompressionPlan(**training, latents=(8, 4)), judge)
    assert [row[0] for row in rows_of(page, "")][2:] == ["4", "8", "real texts"]
    assert all("+" in row[1] for row in rows_of(page, "")[2:4])


def test_compression_uses_the_papers_schedule(training):
    compression = importlib.import_module("compression")
    recipe = compression.CompressionPlan(**{**training, "preset": None}).recipe
    variants = [compression.variant(recipe, n) for n in (16, 64)]
    assert [v.model.schedule.d for v in variants] == [5.0, 7.0]
    assert [v.model.autoencoder.num_latents for v in variants] == [16, 64]
    assert recipe.model.denoiser.width == 256 and recipe.model.backbone.name == "all-MiniLM-L6-v2"


def test_training_stops_in_time_and_goes_on(judge, training):
    compression, study = importlib.import_module("compression"), importlib.import_module("study")
    plan = compression.CompressionPlan(**training, latents=(4,), max_minutes=0.0)
    page = compression.study(plan, lambda line: None)
    assert "Not measured for want of time: latents-4" in page.read_text(encoding="utf-8").replace("\n", " ")
    assert study.Study(plan).is_over()
    rest = compression.study(compression.CompressionPlan(**training, latents=(4,)), lambda line: None)
    assert rows_of(rest, "4")


@pytest.mark.slow
def test_width_learns_bottlenecks_and_reduces_by_pca(judge, training):
    width = importlib.import_module("width")
    page = again(width, width.WidthPlan(**training, widths=(8, 32)), judge)
    assert [row[:2] for row in rows_of(page, "")][2:] == [["learned", "32"], ["learned", "8"], ["PCA", "8"], ["real texts", ""]]


def test_the_bottleneck_starts_as_a_projection(judge, training):
    """Before it is trained, the narrow autoencoder hands on what PCA keeps of the wide latents, up to their size."""
    width = importlib.import_module("width")
    plan = width.WidthPlan(**training, widths=(8, 32))
    work = importlib.import_module("study").Study(plan)
    shop = width.Workshop(plan, work)
    assert shop.autoencoder(width.BASE, plan.recipe) is not None
    narrowing = width.Narrowing(plan, shop)
    wide = narrowing._new(plan.recipe)
    width.load_trained(wide, narrowing.folder)
    latents = narrowing._latents(wide)
    directions, size = width.leading(latents, 8)
    torch.testing.assert_close(directions.T @ directions, torch.eye(8), atol=1e-5, rtol=0)
    assert size == pytest.approx(float((latents @ directions).square().mean(1).sqrt().mean()), rel=1e-5)
    narrow = narrowing._new(width.learned(plan.recipe, 8))
    narrowing._fill(narrow, wide)
    hidden, mask = torch.randn(4, 9, 32), torch.ones(4, 9, dtype=torch.bool)
    inside = narrow.from_latents(narrow.compress(hidden, mask))
    kept = wide.compress(hidden, mask) @ directions @ directions.T
    assert bool((torch.nn.functional.cosine_similarity(inside, kept, dim=-1) > 0.999).all())


@pytest.mark.slow
def test_smoothness_measures_every_rung(judge, training):
    smoothness = importlib.import_module("smoothness")
    rungs = tuple(smoothness.LADDER)[:2]
    page = again(smoothness, smoothness.SmoothnessPlan(**training, rungs=rungs), judge)
    for rung in rungs:
        assert len([row for row in rows_of(page, rung) if row[0] == rung]) == 5  # what it is, noise, interpolation, spike, midpoints


def test_overlap_and_neighbours():
    smoothness = importlib.import_module("smoothness")
    assert smoothness.overlap("The cat sat.", "the cat ran.") == pytest.approx(6 / 8)
    assert smoothness.overlap("", "") == 0
    latents = torch.tensor([[[1.0, 0.0]], [[0.9, 0.1]], [[0.0, 1.0]], [[0.1, 0.8]]])
    assert smoothness.nearest(latents) == [1, 0, 3, 2]


def test_a_spike_comes_once(tiny_model):
    """Half way through, and only there: the walk is the same before."""
    from textcosm.diffusion import SamplerConfig, TanSchedule, trajectory
    from textcosm.diffusion.solvers import open_solver

    smoothness = importlib.import_module("smoothness")
    ends = []
    for size in (0.0, 1.0):
        spiked = smoothness.Spiked(open_solver("ddim"), size, 0.5)
        way = trajectory(tiny_model.denoiser, TanSchedule(), SamplerConfig(6), [1, 2], tiny_model.normaliser.shape, solver=spiked)
        ends.append([point.noisy for point in way])
    same = [torch.equal(a, b) for a, b in zip(*ends, strict=True)]
    assert same == [True, True, True, False, False, False]


# --- pages


def test_pages_hold_intervals_and_curves():
    page = importlib.import_module("page")
    assert page.shown({"value": 0.5, "low": 0.25, "high": 0.75}, 2) == "0.50 [0.25, 0.75]"
    assert page.shown(None) == "-"
    line = page.curve("x", [(1, None), (2, {"value": 1.0, "low": 0.0, "high": 2.0})])
    assert (line.x, line.y, line.intervals) == ([2], [1.0], [(0.0, 2.0)])


def test_every_plan_can_be_given_on_the_command_line(tmp_path):
    import tyro

    shared = ["--test", "t.jsonl", "--out", "o", "--size", "full", "--max-minutes", "5"]
    given = {
        "solvers": ["SolversPlan", "m"],
        "headline": ["HeadlinePlan", "a", "b@20", "--train", "d.jsonl", "--steps", "20", "10"],
        "compression": ["CompressionPlan", "d.jsonl", "--latents", "4", "8", "--seconds-per-stage", "30"],
        "smoothness": ["SmoothnessPlan", "d.jsonl", "--cache", "c"],
        "width": ["WidthPlan", "d.jsonl", "--widths", "8"],
    }
    for name, (plan, *arguments) in given.items():
        found = tyro.cli(getattr(importlib.import_module(name), plan), args=[*arguments, *shared])
        assert (found.size, found.max_minutes, found.count) == ("full", 5.0, 1000)
