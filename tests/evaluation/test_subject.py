"""Subjects give the same texts at every call, and a manifest that tells models apart."""

import json
from dataclasses import replace

import pytest

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.rows import Row, Rows
from textcosm.evaluation.subject import Subject, answering, of_file, of_model
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


PAIRS = Rows("polite", tuple(Row(f"It is {i}.", f"Damp {i} !", (f"It is {i}.", f"Say {i}.")) for i in range(8)))


@pytest.fixture(scope="module")
def answering_model():
    """Untrained; reads sources of at most 4 tokens, and has a guidance of its own."""
    model = tiny_model_of_seed(0, source_length=4)
    return replace(model, config=replace(model.config, sampler=replace(model.config.sampler, guidance=2.0)))


def test_a_model_answers_the_sources_of_its_references(answering_model):
    subject = of_model(answering_model, "polite", steps=2, mbr=3, batch_size=2, references=PAIRS)
    assert subject.sources is not None and subject.notes is not None
    sources = subject.sources(5, 7)
    assert sources == PAIRS.draw_sources(5, 7)
    wanted = answering_model.sample(source=sources, seed=7, steps=2, guidance=2.0, mbr=3)
    assert all_of(subject, 5, 7) == all_of(subject, 5, 7) == wanted
    assert subject.manifest["mbr"] == 3 and subject.manifest["sampler"]["guidance"] == 2.0
    assert subject.notes(5, 7) == ["5 of 5 sources were longer than 4 tokens and were cut."]
    plain = of_model(answering_model, "polite", guidance=1.0, references=PAIRS)
    assert plain.manifest["sampler"]["guidance"] == 1.0


def test_a_model_that_reads_sources_may_write_freely(answering_model):
    subject = of_model(answering_model, "polite", steps=2, references=Rows("texts", (Row("One."), Row("Two."))))
    assert subject.sources is None and all_of(subject, 2, 0) == answering_model.sample(2, steps=2)
    assert subject.manifest["sampler"]["guidance"] == 1.0
    assert subject.notes is not None
    assert subject.notes(2, 0) == ["polite answers sources and was given none: it wrote freely."]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"guidance": 2.0}, "guidance = 2 weighs the source, and there is none"), ({"mbr": 0}, "mbr is 0")],
)
def test_what_a_model_cannot_do_is_said_before_any_work(tiny_model, options, message):
    with pytest.raises(ConfigError, match=message):
        of_model(tiny_model, "tiny", references=PAIRS, **options)


def test_answers_by_anything():
    def write(sources, seed):
        return iter([[f"{source} {seed}" for source in sources]])

    subject = answering("rule", {"name": "rule"}, PAIRS, write)
    assert all_of(subject, 2, 3) == [f"{source} 3" for source in PAIRS.draw_sources(2, 3)]
    assert subject.notes is not None and subject.notes(2, 3) == []


def test_the_sha256_is_of_the_weights(tiny_model):
    same, other = tiny_model_of_seed(0), tiny_model_of_seed(1)
    assert of_model(tiny_model, "a").manifest["sha256"] == of_model(same, "b").manifest["sha256"]
    assert of_model(tiny_model, "a").manifest["sha256"] != of_model(other, "a").manifest["sha256"]


def tiny_model_of_seed(seed: int, **options):
    return tiny_model(seed, **options)


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
