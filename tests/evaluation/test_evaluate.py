"""Evaluations end in a report: the same one for the same command, with what was left out, as JSON and as a page."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from textcosm.errors import BackboneError, ConfigError, DataError
from textcosm.evaluation import evaluate as evaluating
from textcosm.evaluation.evaluate import EvaluationConfig, evaluate
from textcosm.evaluation.judges import Judge, Readings, Surprise
from textcosm.evaluation.report import JSON_FILE, Report, read_report
from textcosm.evaluation.results import Interval
from textcosm.evaluation.rows import Row, Rows
from textcosm.evaluation.subject import Subject, of_file, of_model

for package in ("sacrebleu", "jinja2", "matplotlib", "mauve", "faiss"):
    pytest.importorskip(package)

WHO, DID, WHAT = ["Anna", "Tom", "The dog"], ["saw", "lost", "found"], ["a red bike.", "the river!", "his old hat. It fit."]
TEXTS = [f"{who} {did} {what}" for who in WHO for did in DID for what in WHAT]
REAL = [text.replace("Anna", "Maria").replace("lost", "sold") for text in TEXTS]


class CountingJudge(Judge):
    """Each word costs as many nats as it has letters; features are drawn from the text itself."""

    name, fingerprint = "counting", "c0ffee"

    def __init__(self):
        self.texts_read = 0

    def read(self, texts, batch_tokens=1024, progress=lambda done: None, cache=None):
        self.texts_read += len(texts)
        progress(len(texts))
        costs = [Surprise(len(text.replace(" ", "")) / 4, len(text.split())) for text in texts]
        features = [np.random.default_rng(list(text.encode())).normal(size=4) for text in texts]
        return Readings(list(costs), np.array(features, dtype=np.float32))


def subject_of(texts: list[str], name: str = "mine") -> Subject:
    def batches(n: int, seed: int) -> Iterator[list[str]]:
        return iter([texts[:5], texts[5:n]])

    return Subject(name, {"name": name, "kind": "texts", "sha256": "0" * 64}, batches)


def report_of(texts: list[str] = TEXTS, **options) -> Report:
    config = EvaluationConfig(n=len(texts), draws=2)
    return evaluate(subject_of(texts), REAL, CountingJudge(), config, training=TEXTS[:3], **options)


def test_every_metric_stands_beside_that_of_the_references():
    told: list[tuple[str, int, int]] = []
    report = report_of(command="textcosm evaluate", progress=lambda *stage: told.append(stage))
    everything = ["perplexity", "perplexity_corpus", "diversity", "self_bleu", "memorised", "copies", "words", "sentences"]
    assert list(report.metrics) == ["mauve", *everything] and list(report.reference) == everything
    assert report.metrics["copies"].value == pytest.approx(3 / 27)
    assert report.metrics["words"].value == pytest.approx(np.mean(report.per_text["words"]))
    assert report.ratios["words"] == pytest.approx(1)
    assert len(report.mauve_draws) == 2 and 0 < report.metrics["mauve"].value <= 1
    costs = CountingJudge().read(TEXTS).costs
    assert report.per_text["perplexity"] == pytest.approx([cost.perplexity for cost in costs], rel=1e-5)
    assert report.samples == TEXTS[:20] and report.excluded == {}
    assert ("generate", 27, 27) in told and ("measure texts", 27, 27) in told and told[-1] == ("compare", 1, 1)
    manifest = report.manifest
    assert (manifest["n"], manifest["draws"], manifest["seed"]) == (27, 2, 0)
    assert manifest["judge"] == {"name": "counting", "fingerprint": "c0ffee"}
    assert manifest["data"]["texts"] == 27 and manifest["train"]["texts"] == 3 and len(manifest["data"]["sha256"]) == 64
    assert "torch" in manifest["versions"] and manifest["paired"] == []


def test_the_same_evaluation_is_the_same_report_but_for_the_time(tmp_path):
    for folder in ("a", "b"):
        report_of(out=tmp_path / folder)
    first, second = (json.loads((tmp_path / folder / JSON_FILE).read_text()) for folder in ("a", "b"))
    assert list(first)[-1] == "timings" and first.pop("timings").keys() == second.pop("timings").keys()
    assert json.dumps(first) == json.dumps(second)


def test_a_report_comes_back_from_its_folder(tmp_path):
    report = report_of(out=tmp_path)
    assert read_report(tmp_path) == read_report(tmp_path / JSON_FILE) == report
    again = of_file(tmp_path / "texts.jsonl")
    assert [text for batch in again.texts(27, 0) for text in batch] == TEXTS


def test_the_page_needs_nothing_else_and_escapes_what_it_shows(tmp_path):
    texts = ["<script>alert('no')</script> & so on.", *TEXTS[1:]]
    report_of(texts, out=tmp_path, command="textcosm evaluate 'a b'")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert" in page
    assert page.count("<svg") == 3 and "currentColor" in page and "#010203" not in page
    assert not re.search(r'(src|href)="(?!#)', page.replace('xlink:href="#', ""))
    for words in ("MAUVE", "counting", "c0ffee", "textcosm evaluate &#39;a b&#39;", "clustering alone", "rough: from 27"):
        assert words in page, words


def test_blank_texts_are_left_out_and_counted(tmp_path):
    report = evaluate(
        subject_of(["", " \n", *TEXTS[2:]]), ["", *REAL], CountingJudge(), EvaluationConfig(n=27, draws=1), out=tmp_path
    )
    assert report.excluded == {"blank texts": 2, "blank rows of the references": 1}
    assert len(report.per_text["words"]) == 25 and report.samples[0] == TEXTS[2]
    assert any("25 here, 27 references" in note for note in report.notes)
    assert len((tmp_path / "texts.jsonl").read_text().splitlines()) == 27


def test_without_a_judge_there_is_no_perplexity():
    report = evaluate(subject_of(TEXTS[:4]), REAL, config=EvaluationConfig(n=4))
    assert list(report.metrics) == ["diversity", "self_bleu", "words", "sentences"]
    assert report.manifest["judge"] is None and report.notes == []


def test_what_cannot_be_measured_is_refused_before_any_text_is_made(monkeypatch):
    def never(n: int, seed: int) -> Iterator[list[str]]:
        raise AssertionError("texts were asked for")

    subject = Subject("mine", {}, never)
    with pytest.raises(DataError, match="MAUVE needs at least 20 texts .* n is 5: give more; --draws 0 leaves MAUVE out"):
        evaluate(subject, REAL, CountingJudge(), EvaluationConfig(n=5))
    with pytest.raises(DataError, match="references holds 27 texts, fewer than n = 1000: lower -n"):
        evaluate(subject, REAL, CountingJudge())
    paired = Rows("polite.jsonl", (Row("yes", "source", ("yes",)),))
    with pytest.raises(DataError, match="mine and polite.jsonl are of different tasks: the references answer sources"):
        evaluate(subject, paired, config=EvaluationConfig(n=2))
    monkeypatch.setattr(evaluating.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs sacrebleu, jinja2, matplotlib, not installed here: pip install"):
        evaluate(subject, REAL, config=EvaluationConfig(n=2))


def test_too_many_blank_texts_are_an_error_before_the_judge_reads():
    judge = CountingJudge()
    with pytest.raises(DataError, match="10 of the 27 of mine are blank"):
        evaluate(subject_of([*TEXTS[:17], *[""] * 10]), REAL, judge, EvaluationConfig(n=27))
    assert judge.texts_read == 0


@pytest.mark.parametrize(("values", "message"), [({"n": 1}, "n is 1; an evaluation takes"), ({"draws": -1}, "draws is -1")])
def test_settings_out_of_range(values, message):
    with pytest.raises(ConfigError, match=message):
        EvaluationConfig(**values)


# --- texts that answer sources


@pytest.fixture
def answers() -> Rows:
    """Two sources; the first is answered in two rows."""
    rows = [Row("a mild dog", "a bad dog", ("a mild dog",)), Row("a good cat", "a sad cat", ("a good cat", "the cat"))]
    return Rows("polite.jsonl", (*rows, Row("a dear dog", "a bad dog", ("a dear dog",))))


def answering(sources: list[str]) -> Subject:
    return Subject("rude", {}, lambda n, seed: iter([["a dear dog", "the cat"]]), lambda n, seed: sources)


def test_texts_are_paired_by_their_source(answers):
    pytest.importorskip("rouge_score")
    config = EvaluationConfig(n=2, paired=("rouge1", "rougeL"))
    report = evaluate(answering(["a bad dog", "a sad cat"]), answers, config=config)
    assert report.metrics["rouge1"].value == pytest.approx(1) == report.metrics["rougeL"].value
    assert report.sample_sources == ["a bad dog", "a sad cat"]
    assert report.manifest["paired"] == ["rouge1", "rougeL"]


def test_sources_that_nobody_answers_are_of_another_task(answers):
    with pytest.raises(DataError, match=r"different tasks: 1 of 2 sources are not in polite.jsonl \(first 'a new bird'\)"):
        evaluate(answering(["a bad dog", "a new bird"]), answers, config=EvaluationConfig(n=2))


def test_metrics_that_cannot_be_had_are_refused_first(answers):
    subject = answering(["a bad dog", "a sad cat"])
    with pytest.raises(ConfigError, match="unknown metric 'magic'"):
        evaluate(subject, answers, config=EvaluationConfig(n=2, paired=("magic",)))
    with pytest.raises(ConfigError, match="joint needs a judge of fluency"):
        evaluate(subject, answers, config=EvaluationConfig(n=2, paired=("joint",)))


# --- reports that are none


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist; give the folder that textcosm evaluate wrote"),
        ("{", "is not JSON"),
        ("[]", "no report of format 1 but None"),
        ('{"format": 7}', "no report of format 1 but 7"),
        ('{"format": 1}', "no whole report"),
        ('{"format": 1, "metrics": {"words": {"value": 1}}, "reference": {}}', "no whole report"),
    ],
)
def test_what_is_no_report_is_a_clear_error(tmp_path: Path, content, message):
    if content is not None:
        (tmp_path / JSON_FILE).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_report(tmp_path)
    assert "\n" not in str(caught.value)


def test_infinity_never_gets_into_the_json(tmp_path):
    report = Report("x", {}, {"words": Interval(float("inf"), 0.0, 0.0)}, {}, {}, {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        json.dumps(report.to_dict(), allow_nan=False)


def test_a_latent_space_is_measured_on_the_references(tiny_model):
    report = evaluate(of_model(tiny_model, "tiny", steps=2), REAL, config=EvaluationConfig(n=4))
    found = tiny_model.reconstruct(read_back(report, REAL))
    assert report.metrics["token_accuracy"].value == pytest.approx(sum(one.token_accuracy for one in found) / 4)
    assert 0 <= report.metrics["reconstruction_bleu"].value <= 1 and not report.notes


def test_without_the_encoder_the_rest_is_measured_and_a_note_says_so(tiny_model):
    def missing(texts):
        raise BackboneError("the encoder is not installed: pip install 'textcosm[hf]'")

    subject = dataclasses.replace(of_model(tiny_model, "tiny", steps=2), reconstruct=missing)
    report = evaluate(subject, REAL, config=EvaluationConfig(n=4))
    assert "token_accuracy" not in report.metrics and "diversity" in report.metrics
    assert report.notes == ["Reconstruction was not measured: the encoder is not installed: pip install 'textcosm[hf]'."]


def read_back(report, texts):
    """The references that a report drew: those of its seed, in their order."""
    drawn = Rows("references", tuple(Row(text) for text in texts)).draw(report.manifest["n"], report.manifest["seed"])
    return [row.text for row in drawn]
