"""The commands: data on stdout, notes on stderr; bad input gives one line, a code that is not zero, no leftovers."""

import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from textcosm import checkpoint, cli, pipeline
from textcosm.cli import doctor, progress, watch
from textcosm.cli.train import chosen_pairs, chosen_preset, start
from textcosm.errors import ConfigError
from textcosm.pipeline import Snapshot, TextDiffusion
from textcosm.presets import preset
from textcosm.testing import tiny_model
from textcosm.training.fit import StepReport

QUICK = [
    "--preset", "tiny", "--autoencoder-training.steps", "3", "--diffusion-training.steps", "3",
    "--model.sampler.steps", "2", "--data.valid-fraction", "0.2",
]  # fmt: skip
STORIES = [
    f"The {animal} saw a {colour} book."
    for animal in ("dog", "cat", "bird")
    for colour in ("red", "blue", "old", "new")
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model().save(folder)
    return str(folder)


@pytest.fixture
def stories(tmp_path) -> str:
    path = tmp_path / "stories.txt"
    path.write_text("\n".join(STORIES))
    return str(path)


# --- generate


def test_generate_writes_texts_and_nothing_else(run, model):
    code, out, err = run("generate", "--model", model, "-n", "3", "--seed", "5")
    assert code == 0
    assert out.splitlines() == [" ".join(text.split()) for text in TextDiffusion.load(model).sample(3, seed=5)]
    assert "3 texts" in err and "seed 5" in err


def test_generate_without_a_seed_shows_the_one_it_took(run, model):
    _, out, err = run("generate", "--model", model, "-n", "2")
    seed = err.split("seed ")[1].split(",")[0]
    assert run("generate", "--model", model, "-n", "2", "--seed", seed)[1] == out


def test_generate_jsonl_into_a_file(run, model, tmp_path):
    path = tmp_path / "new.jsonl"
    path.write_text("what was there")
    code, out, _ = run(
        "generate", "--model", model, "-n", "2", "--steps", "2", "--solver", "ddim", "--seed", "1",
        "--format", "jsonl", "--out", str(path),
    )  # fmt: skip
    assert (code, out) == (0, "")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = TextDiffusion.load(model).sample(2, steps=2, solver="ddim", seed=1)
    assert rows == [{"index": i, "seed": 1, "text": text} for i, text in enumerate(texts)]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-n", "0"], "-n is 0; ask for at least 1"),
        (["--steps", "0"], "--steps is 0; give at least 1"),
        (["--solver", "magic"], "solver 'magic' is unknown; choose one of"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--watch", "-n", "100"], "--watch shows at most 64 texts, not 100"),
        (["--out", "/no/such/folder/x"], "/no/such/folder/x cannot be written: No such file"),
    ],
)
def test_generate_refuses(refused, model, options, message):
    assert message in refused("generate", "--model", model, *options)


def test_full_disk_while_writing_texts(refused, model, tmp_path, monkeypatch):
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    path = tmp_path / "new.txt"
    assert "No space left on device" in refused("generate", "--model", model, "-n", "2", "--out", str(path), code=1)
    assert os.listdir(tmp_path) == []


def test_a_device_is_written_to_and_stays(run, model):
    assert run("generate", "--model", model, "-n", "1", "--out", os.devnull)[0] == 0
    assert Path(os.devnull).is_char_device()


# --- watching


def test_watch_prints_plain_snapshots_where_nothing_can_be_redrawn(run, model):
    plain = run("generate", "--model", model, "-n", "2", "--seed", "5", "--steps", "9")
    code, out, err = run("generate", "--model", model, "-n", "2", "--seed", "5", "--steps", "9", "--watch")
    assert (code, out) == (0, plain[1])
    assert [line for line in err.splitlines() if line.startswith("step")][0] == "step   1 of 9   noise 1.00"
    assert err.count("step ") == watch.PLAIN_SNAPSHOTS


def snapshots(steps: int) -> list[Snapshot]:
    return [Snapshot(k, steps, 1 - k / steps, 1 - k / steps, [f"text {k}", ""]) for k in range(1, steps + 1)]


@pytest.mark.parametrize("steps", [1, 2, 4, 5, 6, 7, 50])
def test_plain_snapshots_are_few_and_end_with_the_result(steps):
    stream = io.StringIO()
    assert watch.watched(iter(snapshots(steps)), Console(file=stream)) == [f"text {steps}", ""]
    shown = [line for line in stream.getvalue().splitlines() if line.startswith("step")]
    assert len(shown) == min(steps, watch.PLAIN_SNAPSHOTS)
    assert shown[-1].startswith(f"step {steps:>3} of {steps}")


def test_watch_redraws_on_a_terminal():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=60, height=20)
    assert watch._live(iter(snapshots(3)), console) == ["text 3", ""]
    assert "step   2 of 3" in stream.getvalue() and "text 1" in stream.getvalue()


# --- which model


def test_a_missing_model_lists_the_shipped_ones(refused, monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, "CHECKPOINTS", tmp_path)
    tiny_model().save(tmp_path / "small")
    assert "no model 'large': give a folder, or a shipped name (small)" in refused("generate", "--model", "large")


def test_a_folder_without_a_model(refused, tmp_path):
    for command in ("generate", "info"):
        arguments = [str(tmp_path)] if command == "info" else ["--model", str(tmp_path)]
        assert "holds no model" in refused(command, *arguments)


@pytest.mark.parametrize(
    ("damage", "message"),
    [("truncated", "truncated or altered"), ("altered", "truncated or altered"), ("version", "format version 7")],
)
def test_damaged_models(refused, tmp_path, damage, message):
    tiny_model().save(tmp_path / "m")
    name = "config.json" if damage == "version" else "denoiser-00001.safetensors"
    path = tmp_path / "m" / name
    content = path.read_bytes()
    changed = {
        "truncated": content[:-100],
        "altered": content[:-1] + bytes([content[-1] ^ 1]),
        "version": content.replace(b'"version": 1', b'"version": 7', 1),
    }
    path.write_bytes(changed[damage])
    assert message in refused("generate", "--model", str(tmp_path / "m"))


# --- reconstruct and interpolate


def test_reconstruct_writes_jsonl_and_a_summary(run, model, stories):
    code, out, err = run("reconstruct", stories, "--model", model, "-n", "5")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["text"] for row in rows] == STORIES[:5]
    assert rows[0].keys() == {"text", "reconstruction", "token_accuracy"}
    mean = sum(row["token_accuracy"] for row in rows) / 5
    assert err == (
        f"5 texts: token accuracy {mean:.4f} (mean over texts), 0 came back whole, "
        "0 were longer than 24 tokens and were cut\n"
    )


def test_reconstruct_counts_cut_texts(run, model, tmp_path):
    (tmp_path / "long.txt").write_text("the dog ran home " * 20)
    assert "1 were longer than 24 tokens" in run("reconstruct", str(tmp_path / "long.txt"), "--model", model)[2]


class Stdin:
    def __init__(self, content: bytes):
        self.buffer = io.BytesIO(content)


def test_reconstruct_reads_stdin(run, model, monkeypatch):
    monkeypatch.setattr(sys, "stdin", Stdin("The dog ran.\n\nA café.\n".encode()))
    code, out, _ = run("reconstruct", "-", "--model", model)
    assert (code, [json.loads(line)["text"] for line in out.splitlines()]) == (0, ["The dog ran.", "A café."])


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "holds no texts"), (b"ok\n\xff\n", "line 2 of stdin is not UTF-8")]
)
def test_reconstruct_refuses_bad_stdin(refused, model, monkeypatch, content, message):
    monkeypatch.setattr(sys, "stdin", Stdin(content))
    assert message in refused("reconstruct", "-", "--model", model)


def test_interpolate(run, refused, model):
    code, out, _ = run("interpolate", *STORIES[:2], "--steps", "4", "--model", model)
    assert (code, len(out.splitlines())) == (0, 4)
    assert "--steps is 0" in refused("interpolate", "a", "b", "--steps", "0", "--model", model)


def test_interpolate_along_a_file(run, refused, model, tmp_path):
    (tmp_path / "stops.txt").write_text("\n".join(STORIES[:3]))
    code, out, _ = run("interpolate", str(tmp_path / "stops.txt"), "--steps", "3", "--model", model)
    path = TextDiffusion.load(model).interpolate(*STORIES[:3], steps=3)
    assert (code, out.splitlines()) == (0, path) and len(path) == 5
    assert "1 text given; a path needs at least 2" in refused("interpolate", "a dog", "--model", model)


def test_an_encoder_other_than_the_one_trained_with(refused, tmp_path):
    other = tiny_model()
    other.backbone_fingerprint = "another"
    other.save(tmp_path / "m")
    assert "is not the one of this model" in refused("interpolate", "a", "b", "--model", str(tmp_path / "m"))


# --- bad files, for every command that reads one


def bad_files(folder: Path) -> list[tuple[str, list[str], str]]:
    """A name, options and what is said of it."""
    (folder / "empty.txt").write_text("")
    (folder / "latin.txt").write_bytes(b"fine\nna\xefve\n")
    (folder / "long.txt").write_bytes(b"x" * 10_000_001)
    (folder / "rows.jsonl").write_text('{"title": "a", "body": "b"}\n')
    return [
        ("missing.txt", [], "does not exist"),
        ("empty.txt", [], "holds no text"),
        ("latin.txt", [], "line 2 is not UTF-8"),
        ("long.txt", [], "line 1 is longer than 10 MB"),
        ("rows.jsonl", ["--text-field", "story"], "no field 'story'; it has: title, body"),
        (".", [], "is a folder"),
    ]


@pytest.mark.parametrize("case", range(6))
def test_bad_files(refused, tmp_path, model, case):
    (tmp_path / "data").mkdir()
    name, options, message = bad_files(tmp_path / "data")[case]
    data = str(tmp_path / "data" / name)
    assert message in refused("reconstruct", data, "--model", model, *options)
    assert message in refused("train", data, "--out", str(tmp_path / "run"), *QUICK, *options)
    assert not (tmp_path / "run" / "model").exists()


# --- train


def test_train_makes_a_model_and_goes_on_from_it(run, stories, tmp_path):
    out_dir = str(tmp_path / "run")
    code, out, err = run("train", stories, "--out", out_dir, *QUICK)
    assert (code, out) == (0, ""), err
    assert "autoencoder  3/3" in err and "diffusion  3/3" in err
    assert "0 of them were longer than 24 tokens" in err and "textcosm generate --model" in err
    config = TextDiffusion.load(out_dir).config
    wanted = preset("tiny").recipe.model
    assert config == replace(wanted, sampler=replace(wanted.sampler, steps=2))
    assert run("generate", "--model", out_dir, "-n", "1")[0] == 0
    assert run("train", stories, "--out", out_dir, *QUICK)[0] == 0


def test_other_settings_in_the_same_folder_are_refused(run, stories, tmp_path):
    out_dir = str(tmp_path / "run")
    assert run("train", stories, "--out", out_dir, *QUICK, "--stage", "autoencoder")[0] == 0
    code, _, err = run("train", stories, "--out", out_dir, *QUICK, "--stage", "autoencoder", "--seed", "9")
    assert code == 2 and "seed" in err.splitlines()[-1]


def test_train_reads_the_named_field(run, tmp_path):
    rows = [{"title": "a", "body": text} for text in STORIES]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, _, err = run(
        "train", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "run"), *QUICK,
        "--text-field", "body", "--stage", "autoencoder",
    )  # fmt: skip
    assert code == 0, err


@pytest.fixture
def pairs(tmp_path) -> str:
    path = tmp_path / "pairs.jsonl"
    records = [{"source": text, "targets": [text.upper(), text.lower()]} for text in STORIES]
    path.write_text("\n".join(map(json.dumps, [*records, {"source": " ", "targets": ["x"]}])))
    return str(path)


def test_train_on_the_pairs_of_a_task(run, pairs, tmp_path):
    out_dir = str(tmp_path / "run")
    options = ("--task", "detoxification", "--model.source.max-length", "6")
    code, out, err = run("train", pairs, "--out", out_dir, *QUICK, *options)
    assert (code, out) == (0, ""), err
    assert "20 of 20 sources were longer than 6 tokens and were cut" in err
    assert "pairs left out, for an empty source or no answer: 1" in err
    config = TextDiffusion.load(out_dir).config
    assert config.denoiser.source_depth == config.denoiser.depth == 2 and config.source.max_length == 6


def test_train_on_pairs_by_their_fields(run, pairs, tmp_path):
    code, _, err = run(
        "train", pairs, "--out", str(tmp_path / "run"), *QUICK, "--source-field=source", "--target-field", "targets",
        "--stage", "autoencoder",
    )  # fmt: skip
    assert code == 0 and "sources were longer than 512 tokens" in err, err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--task", "poems"], "there is no task 'poems'; choose one of stories"),
        (["--source-field", "source"], "--source-field is given alone; give --target-field too"),
        (
            ["--text-field", "a", "--source-field", "source", "--target-field", "targets"],
            "--text-field 'a' and --source-field 'source' are given; give one",
        ),
        (["--task", "detoxification", "--text-field", "a"], "has pairs, not texts; leave --text-field 'a' out"),
        (["--task", "detoxification", "--model.denoiser.source-depth", "0"], "model.denoiser.source_depth = 0 reads none"),
        (["--model.denoiser.source-depth", "1"], "the data is texts alone; give --task NAME"),
        (["--task", "question-generation"], "no field answer + context; it has: source, targets"),
    ],
)
def test_pairs_that_cannot_be_trained_on(refused, pairs, tmp_path, options, message):
    assert message in refused("train", pairs, "--out", str(tmp_path / "run"), *QUICK, *options)


def test_what_the_defaults_of_train_depend_on():
    assert chosen_pairs(["x", "--task", "detoxification"]) and chosen_pairs(["--source-field=a"])
    assert chosen_pairs(["--task", "stories"]) is False and chosen_pairs(["x"]) is None
    assert start("detox-16", None) == preset("detox-16").recipe
    assert start("detox-16", False).model.denoiser.source_depth == 0
    assert start("stories-16", True).model.denoiser.source_depth == 6


def test_full_disk_while_the_model_is_saved(run, stories, tmp_path, monkeypatch):
    def full(path: Path, content: bytes) -> str:
        path.write_bytes(content[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "_write", full)
    code, out, err = run("train", stories, "--out", str(tmp_path / "run"), *QUICK)
    assert (code, out) == (2, "")
    assert "model was not saved: No space left on device" in err.splitlines()[-1]
    left = os.listdir(tmp_path / "run")
    assert "diffusion" in left and not [name for name in left if "model" in name], "no model, whole or in part"


def test_a_run_that_is_stopped_says_how_to_go_on(run, stories, tmp_path):
    code, _, err = run("train", stories, "--out", str(tmp_path / "run"), *QUICK, "--max-seconds", "0")
    assert code == 0 and "the same command goes on from here" in err
    assert not (tmp_path / "run" / "model").exists()


def test_bad_settings_are_refused(refused, stories, tmp_path):
    out_dir = str(tmp_path / "run")
    assert "there is no preset 'huge'; choose one of stories-16" in refused(
        "train", stories, "--out", out_dir, "--preset", "huge"
    )
    assert "num_latents is 0" in refused(
        "train", stories, "--out", out_dir, *QUICK, "--model.autoencoder.num-latents", "0"
    )
    assert not Path(out_dir).exists()


def test_a_flag_that_does_not_exist(run, stories, tmp_path):
    code, out, err = run("train", stories, "--out", str(tmp_path / "run"), "--model.denoiser.colour", "red")
    assert (code, out) == (2, "") and "--model.denoiser.colour" in err


def test_chosen_preset_is_found_wherever_it_stands():
    assert chosen_preset(["x", "--preset", "tiny"]) == chosen_preset(["--preset=tiny", "x"]) == "tiny"
    assert chosen_preset(["x", "--out", "y"]) == "stories-16"
    with pytest.raises(ConfigError):
        chosen_preset(["--preset", "--out"])


def test_help_of_train_shows_every_setting_with_the_values_of_the_preset(run):
    code, out, _ = run("train", "--preset", "paper", "--help")
    assert code == 0
    for flag in ("--model.denoiser.depth", "--autoencoder-training.batch-size", "--data.valid-fraction", "--seed"):
        assert flag in out
    assert "bert-base-cased" in out


# --- progress


def test_progress_lines_come_now_and_then():
    stream, now = io.StringIO(), iter([0.0, 0.0, 3.0, 11.0, 11.0, 12.0, 13.0]).__next__
    lines = progress.Lines(Console(file=stream), now)
    for step, metrics in (
        (1, {"loss": 2.0}),
        (2, {"loss": 1.5}),
        (3, {"loss": 1.25}),
        (4, {"valid_loss": 1.0}),
        (9, {}),
    ):
        lines(StepReport(step, 9, "diffusion", metrics, 1234.5, 3725.0 if step < 9 else 0.0))
    assert stream.getvalue().splitlines() == [
        "diffusion  1/9  loss 2  1,234 texts/s  1:02:05 left",
        "diffusion  3/9  loss 1.25  1,234 texts/s  1:02:05 left",
        "diffusion  4/9  valid loss 1  1,234 texts/s  1:02:05 left",
        "diffusion  9/9  1,234 texts/s",
    ]


def test_progress_bars_on_a_terminal():
    with Progress(TextColumn("{task.fields[state]}"), disable=True) as shown:
        bars = progress.Bars(shown)
        bars(StepReport(5, 0, "tokenise", {}, 10.0, 0.0))
        bars(StepReport(5, 10, "autoencoder", {"loss": 1.0, "gradient_norm": 2.0}, 10.0, 5.0))
        states = [task.fields["state"] for task in shown.tasks]
    assert states == ["5  10 texts/s", "5/10  loss 1  10 texts/s  0:00:05 left"]


# --- info, presets, doctor, the overview


def test_info_shows_sizes_and_the_record(run, tmp_path):
    model = tiny_model()
    model.record = {"data": {"texts": 391, "lengths": [0, 391]}, "autoencoder": {"loss": 0.123456789}}
    model.save(tmp_path / "m", "int8")
    code, out, err = run("info", str(tmp_path / "m"))
    rows = dict(line.split("  ", 1) for line in out.splitlines())
    assert (code, err) == (0, "")
    assert rows["latents"].strip() == "8 of width 32, for at most 24 tokens (3x)"
    assert rows["precision"].strip() == "int8"
    assert "data.lengths" not in rows and "source" not in rows
    assert rows["data.texts"].strip() == "391" and rows["autoencoder.loss"].strip() == "0.123457"


def test_doctor_finds_its_way(run, monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(doctor, "_has", lambda module: module != "transformers")
    tiny_model().save(tmp_path / "small")
    tiny_model().save(tmp_path / "broken")
    (tmp_path / "broken" / "config.json").write_text("{")
    code, out, err = run("doctor")
    assert (code, err) == (0, "")
    assert 'transformers missing; pip install "textcosm[hf]"' in out
    assert "times as fast as float32 here" in out
    assert "[ok] model          small" in out and "reads texts with tiny" in out
    assert "[--] model          broken is damaged" in out


def test_doctor_without_models(monkeypatch, tmp_path):
    monkeypatch.setattr(pipeline, "CHECKPOINTS", tmp_path)
    assert ("--", "models", "none in this installation; train one: textcosm train DATA --out DIR") in list(
        doctor.findings()
    )


def test_presets_are_listed(run):
    code, out, err = run("presets")
    assert (code, err) == (0, "")
    assert "paper-512 " in out and "512 tokens in 512 latents" in out


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_the_overview_names_every_command(run, arguments):
    code, out, _ = run(*arguments)
    assert code == 0 and all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(run, name):
    code, out, err = run(name, "--help")
    assert (code, err) == (0, "") and f"usage: textcosm {name}" in out


def test_unknown_command_and_version(run, refused):
    assert "no command 'generat'; there are generate, train" in refused("generat")
    assert run("--version")[1] == "0.1.0\n"


# --- the way out


def test_interrupts_and_refusals_of_the_system(refused, monkeypatch):
    def raising(error):
        def dispatch(given):
            raise error

        monkeypatch.setattr(cli, "_dispatch", dispatch)

    raising(KeyboardInterrupt())
    assert refused("generate", code=130) == "textcosm: stopped\n"
    raising(PermissionError(errno.EACCES, "Permission denied", "/secret"))
    assert refused("generate", code=1) == "textcosm: /secret: Permission denied\n"
    raising(ConfigError("two\nlines"))
    assert refused("generate") == "textcosm: two lines\n"


def test_as_a_process_with_a_reader_that_leaves(model):
    """``textcosm generate | head``: no complaint; and sampling imports neither transformers nor a training loop."""
    script = (
        "import sys; from textcosm.cli import main; code = main();"
        "print([m for m in ('transformers', 'textcosm.training', 'pyarrow') if m in sys.modules], file=sys.stderr);"
        "sys.exit(code)"
    )
    command = [sys.executable, "-c", script, "generate", "--model", model, "-n", "200", "--batch-size", "10"]
    paths = os.pathsep.join(filter(None, [str(Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        notes = process.stderr.read()
    assert notes.strip() == "[]", notes
    assert process.returncode == 0
