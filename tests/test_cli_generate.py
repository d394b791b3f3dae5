"""``textcosm generate`` in answer to sources: from files, stdin and words, with guidance and the best of k."""

import io
import json
import sys
from dataclasses import replace

import pytest
import torch

from textcosm import cli
from textcosm.cli.given import given_texts, is_data
from textcosm.nn.precision import is_able
from textcosm.pipeline import TextDiffusion
from textcosm.tasks import DataConfig
from textcosm.testing import tiny_model

RUDE = ["Go home .", "What a messy room you have , you lazy cat , and nobody wants to see it !"]


def answering_model(task: str | None = "detoxification") -> TextDiffusion:
    """Untrained, and it reads sources of at most 12 tokens."""
    record = {"recipe": {"data": {"task": task, "source_field": None, "target_field": None, "valid_fraction": 0.1}}}
    return replace(tiny_model(source_length=12), record=record)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "answering"
    answering_model().save(folder)
    return str(folder)


@pytest.fixture
def call(capsys, model):
    """Run generate with two steps; returns code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.main(["generate", "--model", model, "--steps", "2", "--seed", "3", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def one_a_line(texts: list[str]) -> list[str]:
    return [" ".join(text.split()) for text in texts]


def test_an_answer_to_each_source_of_words_file_and_stdin(call, model, tmp_path, monkeypatch):
    wanted = one_a_line(TextDiffusion.load(model).sample(source=RUDE, steps=2, seed=3))
    code, out, err = call("--source", *RUDE)
    assert (code, out.splitlines()) == (0, wanted)
    assert "1 of 2 sources were longer than 12 tokens and were cut\n" in err and "2 texts of" in err
    (tmp_path / "rude.jsonl").write_text("\n".join(json.dumps({"en_toxic_comment": text}) for text in RUDE))
    (tmp_path / "rude.txt").write_text("\n".join(RUDE))
    assert call("--source", str(tmp_path / "rude.jsonl"))[1] == call("--source", str(tmp_path / "rude.txt"))[1] == out
    stdin = type("Stdin", (), {"buffer": io.BytesIO("\n\n".join(RUDE).encode())})
    monkeypatch.setattr(sys, "stdin", stdin)
    assert call("--source", "-")[1] == out


def test_the_field_of_the_source_can_be_named(call, tmp_path):
    (tmp_path / "mine.csv").write_text(f"said,when\n{RUDE[0]},now\n")
    code, out, _ = call("--source", str(tmp_path / "mine.csv"), "--source-field", "said")
    assert (code, out) == (0, call("--source", RUDE[0])[1])


def test_jsonl_keeps_the_source(call, model):
    code, out, _ = call("--source", *RUDE, "--format", "jsonl")
    texts = TextDiffusion.load(model).sample(source=RUDE, steps=2, seed=3)
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows == [{"index": i, "seed": 3, "source": RUDE[i], "text": texts[i]} for i in range(2)]


def test_guidance_and_the_best_of_k(call, model):
    diffusion = TextDiffusion.load(model)
    options = {"source": RUDE, "steps": 2, "seed": 3}
    out = call("--source", *RUDE, "--guidance", "3")[1]
    assert out.splitlines() == one_a_line(diffusion.sample(**options, guidance=3.0))
    assert out != call("--source", *RUDE)[1]
    out = call("--source", *RUDE, "--lm-weight", "30")[1]
    assert out.splitlines() == one_a_line(diffusion.sample(**options, lm_weight=30.0))
    out = call("--source", *RUDE, "--mbr", "3")[1]
    assert out.splitlines() == one_a_line(diffusion.sample(**options, mbr=3))
    out = call("--source", *RUDE, "--best", "3")[1]
    assert out.splitlines() == one_a_line(diffusion.sample(**options, best=3))
    assert call("--source", *RUDE, "--watch")[1] == call("--source", *RUDE)[1]


def test_without_a_source_it_writes_freely_and_says_so(call, model):
    code, out, err = call("-n", "2")
    assert (code, out.splitlines()) == (0, one_a_line(TextDiffusion.load(model).sample(2, steps=2, seed=3)))
    assert "answers sources and was given none: it wrote freely (see --source)" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "One.", " "], "source 2 of 2 is empty"),
        (["--source", "One.", "-n", "2"], "n is 2 and there are 1 sources: each gives one text"),
        (["--source", "none.jsonl"], "none.jsonl does not exist"),
        (["--guidance", "2"], "guidance = 2 weighs the source, and there is none"),
        (["--source", "One.", "--guidance", "-1"], "guidance = -1.0 is no number from 0 up"),
        (["--lm-weight", "-1"], "lm_weight = -1.0 is no number from 0 up"),
        (["--mbr", "0"], "--mbr is 0; choose among at least 1"),
        (["--best", "0"], "--best is 0; choose among at least 1"),
        (["--best", "3", "--watch"], "--watch shows one text emerge and --best chooses among several"),
        (["--best", "3", "--mbr", "3"], "--mbr 3 and --best 3 both choose among candidates"),
        (["--mbr", "3", "--watch"], "--watch shows one text emerge and --mbr chooses among several"),
    ],
)
def test_what_cannot_be_done(call, options, message):
    code, out, err = call(*options)
    assert message in err
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_a_file_without_the_fields_of_the_task(call, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"body": "a"}\n')
    code, _, err = call("--source", str(tmp_path / "rows.jsonl"))
    assert code == 2 and "no field source or en_toxic_comment" in err and "--source-field" in err


def test_a_model_without_a_source_encoder(capsys, tmp_path):
    tiny_model().save(tmp_path / "m")
    assert cli.main(["generate", "--model", str(tmp_path / "m"), "--source", "One."]) == 2
    assert "this model reads no source: leave it out" in capsys.readouterr().err


def test_no_source_in_stdin(call, monkeypatch):
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": io.BytesIO(b"\n")}))
    assert "--source - holds no texts" in call("--source", "-")[2]


def test_what_is_a_file_and_what_are_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my texts").write_text("")
    files = ["a.txt", "a.jsonl.gz", "hf:owner/name", "my texts"]
    words = ["Stop it.", "~nobody is home", "See a.txt or b.txt for it", "x" * 5000, "hf: fine", "word"]
    assert [is_data(one) for one in files + words] == [True] * 4 + [False] * 6
    assert given_texts(["a.txt", "Stop it."], lambda data: iter([data, data])) == ["a.txt", "a.txt", "Stop it."]


def test_the_models_own_pairs_are_read(model):
    from textcosm.cli.options import pairs_of_model

    assert pairs_of_model(model) == DataConfig(task="detoxification")


@pytest.mark.parametrize("precision", ["int8", "bfloat16"])
def test_a_precision_is_taken_or_said_to_be_missing(precision, capsys, tmp_path):
    tiny_model().save(tmp_path / "tiny")
    options = ["--model", str(tmp_path / "tiny"), "-n", "2", "--steps", "2", "--seed", "0", "--device", "cpu"]
    assert cli.main(["generate", *options, "--precision", precision]) == 0
    said = capsys.readouterr()
    assert ("float32 is used" in said.err) != is_able(torch.device("cpu"), precision)
