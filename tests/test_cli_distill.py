"""``textcosm distill``: a whole tiny run from the command line, the notes of a student, and runs that are none."""

import json

import pytest

STORIES = [f"The {animal} saw a {colour} book." for animal in ("dog", "cat", "bird") for colour in ("red", "blue", "old")]
QUICK = ["--fit.steps", "2", "--fit.batch-size", "4", "--fit.valid-every", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A finished run of the tiny preset, and a student of 2 steps (its walk is of 16: the preset has 10)."""
    from textcosm import cli

    folder = tmp_path_factory.mktemp("distill")
    (folder / "stories.txt").write_text("\n".join(STORIES))
    training = ["--preset", "tiny", "--autoencoder-training.steps", "3", "--diffusion-training.steps", "3"]
    assert cli.main(["train", str(folder / "stories.txt"), "--out", str(folder / "run"), "--device", "cpu", *training]) == 0
    assert cli.main(["distill", str(folder / "run"), "--out", str(folder / "out"), "--steps", "2", *QUICK]) == 0
    return folder


def test_a_student_generates_and_says_when_it_is_asked_for_other_steps(run, folders):
    code, out, err = run("generate", "--model", str(folders / "out"), "-n", "2", "--seed", "1")
    assert code == 0 and len(out.splitlines()) == 2 and "distilled" not in err
    code, out, err = run("generate", "--model", str(folders / "out"), "-n", "2", "--seed", "1", "--steps", "5")
    assert code == 0 and len(out.splitlines()) == 2 and "distilled for 2 steps; 5 were asked for\n" in err
    code, *_ = run("generate", "--model", str(folders / "out"), "-n", "1", "--steps", "2", "--watch")
    assert code == 0


def test_a_student_is_evaluated_with_the_same_note(run, folders):
    given = ["evaluate", str(folders / "out"), "--against", str(folders / "stories.txt"), "--judge", "none", "-n", "2",
             "--draws", "0", "--device", "cpu", "--out", str(folders / "report")]  # fmt: skip
    code, _, err = run(*given, "--steps", "5")
    assert code == 0 and "distilled for 2 steps; 5 were asked for" in err
    sampler = json.loads((folders / "report" / "report.json").read_text())["manifest"]["model"]["sampler"]
    assert sampler["steps"] == 5 and len(sampler["visit"]) == 2
    code, _, err = run(*given)
    assert code == 0 and "distilled" not in err


def test_a_student_can_be_described_and_its_autoencoder_taken(run, folders):
    code, out, _ = run("info", str(folders / "out"))
    assert code == 0 and "distillation.teacher.steps" in out and "ddim, 2 steps" in out
    code, *_ = run(
        "train", str(folders / "stories.txt"), "--out", str(folders / "other"), "--preset", "tiny", "--device", "cpu",
        "--init-autoencoder", str(folders / "out"), "--diffusion-training.steps", "1",
    )  # fmt: skip
    assert code == 0


def test_the_same_command_has_nothing_left_to_do(run, folders):
    code, out, err = run("distill", str(folders / "run"), "--out", str(folders / "out"), "--steps", "2", *QUICK)
    assert (code, out) == (0, "") and f"the student of 2 steps is in {folders / 'out' / 'model'}" in err


def test_time_slices(run, folders):
    code, _, err = run(
        "distill", str(folders / "run"), "--out", str(folders / "slice"), "--max-seconds", "0", "--device", "cpu"
    )
    assert code == 0 and "stopped before the end" in err and not (folders / "slice" / "model").exists()


def test_what_is_refused(refused, folders):
    run, out = str(folders / "run"), str(folders / "none")
    assert "holds no latents" in refused("distill", f"{run}/model", "--out", out)
    assert "--steps 20 is out of reach" in refused("distill", run, "--out", out, "--steps", "20")
    assert "this model reads none" in refused("distill", run, "--out", out, "--guidance", "2")
    assert "is the teacher's own folder" in refused("distill", run, "--out", run)
