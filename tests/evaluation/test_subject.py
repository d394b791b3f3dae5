"""Subjects give the same texts at every call, and a manifest that tells models apart."""

import json

import pytest

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.subject import Subject, of_file, of_model
from textcosm.testing import tiny_model


def all_of(subject: Subject, n: int, seed: int) -> list[str]:
    return [text for batch in subject.texts(n, seed) for text in batch]


def test_a_model_gives_its_samples_and_says_which_it_is(tiny_model):
    subject = of_model(tiny_model, "tiny", steps=3, solver="ddim", batch_size=2)
    assert all_of(subject, 5, 7) == tiny_model.sample(5, seed=7, steps=3, solver="ddim")
    manifest = json.loads(json.dumps(subject.manifest))
    assert manifest["sampler"]["steps"] == 3 and manifest["sampler"]["solver"] == "ddim"
    assert manifest["parameters"]["denoiser"] == sum(p.numel() for p in tiny_model.denoiser.parameters())
    assert subject.sources is None


def test_the_sha256_is_of_the_weights(tiny_model):
    same, other = tiny_model_of_seed(0), tiny_model_of_seed(1)
    assert of_model(tiny_model, "a").manifest["sha256"] == of_model(same, "b").manifest["sha256"]
    assert of_model(tiny_model, "a").manifest["sha256"] != of_model(other, "a").manifest["sha256"]


def tiny_model_of_seed(seed: int):
    return tiny_model(seed)


def test_a_bad_solver_is_refused_before_any_work(tiny_model):
    with pytest.raises(ConfigError, match="solver 'magic' is unknown"):
        of_model(tiny_model, "tiny", solver="magic")


def test_a_file_gives_its_texts_blank_ones_too(tmp_path):
    path = tmp_path / "new.jsonl"
    rows = [{"index": i, "text": text} for i, text in enumerate(["One.", "", "Two.", "Three."])]
    path.write_text("\n".join(map(json.dumps, rows)))
    subject = of_file(path)
    assert all_of(subject, 4, 0) == ["One.", "", "Two.", "Three."]
    assert all_of(subject, 2, 0) == all_of(subject, 2, 0)
    assert {tuple(all_of(subject, 2, seed)) for seed in range(20)} != {tuple(all_of(subject, 2, 0))}
    assert subject.manifest["texts"] == 4
    with pytest.raises(DataError, match="holds 4 texts, fewer than n = 5: lower -n"):
        subject.texts(5, 0)


def test_rows_with_a_source_keep_it(tmp_path):
    path = tmp_path / "polite.jsonl"
    rows = [{"source": f"rude {i}", "text": f"polite {i}"} for i in range(6)]
    path.write_text("\n".join(map(json.dumps, rows)))
    subject = of_file(path)
    assert subject.sources is not None
    pairs = zip(subject.sources(3, 1), all_of(subject, 3, 1), strict=True)
    assert all(source.removeprefix("rude") == text.removeprefix("polite") for source, text in pairs)
