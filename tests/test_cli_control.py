"""The commands that steer a model: rewrite, infill, continue, probe, and generate with a length or a probe."""

import json

import pytest

from textcosm.control.probe import Probe
from textcosm.pipeline import TextDiffusion
from textcosm.testing import tiny_model

TEXTS = ["The dog ran home.", "Anna saw a bird, and so did we."]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model().save(folder)
    return str(folder)


@pytest.fixture
def labelled(tmp_path) -> str:
    """Texts of two kinds that a linear rule tells apart."""
    rows = [
        {"text": f"the {animal} {verb} home {place}.", "label": label}
        for label, animals in (("dog", ("dog", "cat")), ("rain", ("rain", "snow")))
        for animal in animals
        for verb in ("ran", "went", "came")
        for place in ("again", "now", "here", "soon")
        if place != "now"
    ]
    path = tmp_path / "labelled.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_rewrite_writes_each_text_anew(run, model, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    wanted = TextDiffusion.load(model).rewrite(TEXTS, 0.5, seed=3)
    code, out, _ = run("rewrite", str(tmp_path / "texts.txt"), "--model", model, "--strength", "0.5", "--seed", "3")
    assert (code, out.splitlines()) == (0, [" ".join(text.split()) for text in wanted])
    _, out, _ = run("rewrite", *TEXTS, "--model", model, "--strength", "0.5", "--seed", "3", "--format", "jsonl")
    assert [json.loads(line) for line in out.splitlines()] == [
        {"source": source, "text": text} for source, text in zip(TEXTS, wanted, strict=True)
    ]


def test_a_model_that_answers_sources_answers_what_it_rewrites(run, tmp_path):
    model = tiny_model(source_length=24)
    model.save(tmp_path / "answering")
    wanted = [" ".join(text.split()) for text in model.rewrite(TEXTS, 0.7, source=TEXTS, seed=3)]
    _, out, _ = run("rewrite", *TEXTS, "--model", str(tmp_path / "answering"), "--strength", "0.7", "--seed", "3")
    assert out.splitlines() == wanted != [" ".join(t.split()) for t in model.rewrite(TEXTS, 0.7, seed=3)]


def test_rewrite_until_a_probe_finds_the_label(run, model, labelled, tmp_path):
    probe = str(tmp_path / "probe")
    run("probe", labelled, "--model", model, "--out", probe)
    opened, asked = TextDiffusion.load(model), ("rewrite", *TEXTS, "--model", model, "--seed", "3")
    accept = Probe.load(probe).accept("rain", opened.encode)
    wanted = opened.rewrite(TEXTS, [0.2, 0.5, 1.0], accept, seed=3)
    code, out, _ = run(*asked, "--strength", "0.2", "0.5", "1", "--probe", probe, "--label", "rain")
    assert (code, out.splitlines()) == (0, [" ".join(text.split()) for text in wanted])


def test_infill_and_continue_keep_what_was_given(run, model):
    code, out, err = run("infill", "The dog ___ home.", "--model", model, "--length", "3", "-n", "2")
    assert code == 0 and "of the given tokens were kept by the model itself" in err
    assert len(out.splitlines()) == 2
    assert all(line.startswith("The dog ") and line.endswith(" home.") for line in out.splitlines())
    code, out, _ = run("continue", "The DOG", "--model", model, "--format", "jsonl")
    found = json.loads(out)
    assert code == 0 and found["text"].startswith("The DOG") and 0 <= found["kept"] <= 1


def test_generate_with_a_length(run, model):
    _, out, _ = run("generate", "--model", model, "-n", "2", "--seed", "1", "--length", "5")
    assert out.splitlines() == [" ".join(t.split()) for t in TextDiffusion.load(model).sample(2, seed=1, length=5)]


def test_a_probe_guides_what_is_generated(run, model, labelled, tmp_path):
    probe = str(tmp_path / "probe")
    code, out, err = run("probe", labelled, "--model", model, "--out", probe)
    assert (code, out) == (0, "") and "labels dog, rain: " in err and "of the held-out fifth right" in err
    asked = ("generate", "--model", model, "-n", "2", "--seed", "1")
    free, guided = run(*asked), run(*asked, "--probe", probe, "--label", "rain", "--guide-scale", "20")
    away = run(*asked, "--probe", probe, "--label", "not:rain", "--guide-scale", "20")
    assert guided[0] == away[0] == 0 and len({free[1], guided[1], away[1]}) == 3


def test_a_probe_tells_sources_from_answers(run, refused, tmp_path):
    tiny_model(source_length=24).save(tmp_path / "answering")
    rows = [{"source": f"the {a} {v} home.", "targets": [f"rain {v} again {a}.", f"snow {v} here {a}."]}
            for a in ("dog", "cat", "bird") for v in ("ran", "went", "came", "saw")]  # fmt: skip
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    here = ("probe", str(tmp_path / "pairs.jsonl"), "--model", str(tmp_path / "answering"), "--out", str(tmp_path / "p"))
    code, _, err = run(*here, "--task", "detoxification")
    assert code == 0 and "labels source, target: " in err
    assert Probe.load(tmp_path / "p").labels == ("source", "target")
    assert "--task stories has texts alone" in refused(*here, "--task", "stories")


def test_what_is_refused(refused, model, labelled, tmp_path):
    here = ("--model", model)
    assert "--strength is 2.0; give 0" in refused("rewrite", "a", *here, "--strength", "2")
    several = ("rewrite", "a", *here, "--strength", "0.2", "0.5")
    assert "several --strength are tried until a probe finds a label" in refused(*several)
    assert "--probe DIR and --label NAME go together" in refused(*several, "--probe", "p")
    assert "guidance = 2 weighs the source, and there is none" in refused("rewrite", "a", *here, "--guidance", "2")
    assert "there is no blank in 'The dog'" in refused("infill", "The dog", *here)
    assert "the text to fill is empty" in refused("infill", "", *here)
    assert "this model writes 22 tokens in all: shorten it" in refused("infill", "The dog ran. " * 9 + "___", *here)
    assert "the text to continue is empty" in refused("continue", " ", *here)
    assert "length is 3, and 4 tokens are given already" in refused("continue", "The dog ran home", *here, "--length", "3")
    assert "-n is 0; ask for at least 1 of each text" in refused("infill", "a ___", *here, "-n", "0")
    assert "--best is 0; choose among at least 1" in refused("continue", "a", *here, "--best", "0")
    assert "length is 99; this model writes texts of 1 to 22 tokens" in refused("generate", *here, "--length", "99")
    assert "--length is 'long'; give a number" in refused("generate", *here, "--length", "long")
    assert "does not record the lengths" in refused("generate", *here, "--length", "natural")
    assert "--probe DIR and --label NAME go together" in refused("generate", *here, "--label", "x")
    assert "none" in refused("generate", *here, "--probe", str(tmp_path / "none"), "--label", "x")
    assert "has no field 'mood'; it has text, label: name one with --label-field" in refused(
        "probe", labelled, *here, "--out", str(tmp_path / "p"), "--label-field", "mood"
    )
    assert "is no probe ('probe' is missing)" in refused("generate", *here, "--probe", model, "--label", "x")
