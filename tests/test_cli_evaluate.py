"""The commands evaluate and compare from end to end, on a tiny model, files and rivals, without a judge."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from textcosm.cli import table
from textcosm.evaluation.report import read_report
from textcosm.testing import tiny_model

for package in ("sacrebleu", "jinja2", "matplotlib"):
    pytest.importorskip(package)

STORIES = [
    f"The {animal} saw {colour} books. It {verb} them!"
    for animal in ("dog", "cat", "bird")
    for colour in ("red", "old")
    for verb in ("read", "sold")
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model().save(folder)
    return str(folder)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with real texts and generated ones, worked in."""
    (tmp_path / "real.txt").write_text("\n".join(STORIES))
    rows = [{"text": story.replace("dog", "cow")} for story in STORIES]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(run, subject: str, *options: str, n: int = 10):
    return run("evaluate", subject, "--against", "real.txt", "--judge", "none", "-n", str(n), *options)


def test_a_model_is_evaluated_to_the_same_report_twice(run, here, model):
    options = ["--out", "out", "--steps", "2", "--solver", "ddim", "--device", "cpu", "--train", "real.txt"]
    reports = []
    for _ in range(2):
        code, out, err = evaluate(run, model, *options)
        assert code == 0, err
        found = json.loads((here / "out" / "report.json").read_text())
        found.pop("timings")
        reports.append(found)
    assert reports[0] == reports[1]
    assert out.startswith("| metric | tiny | references | ratio |\n| --- |") and "| Div |" in out
    assert "generate  10/10" in err and "the report is out/report.html" in err
    manifest = reports[0]["manifest"]
    assert manifest["command"].startswith(f"textcosm evaluate {model} --against real.txt --judge none -n 10")
    assert manifest["model"]["sampler"]["steps"] == 2 and manifest["train"]["name"] == "real.txt"
    assert (here / "out" / "report.html").stat().st_size > 10_000


def test_a_file_is_evaluated_into_a_folder_of_its_name(run, here):
    code, _, err = evaluate(run, "new.jsonl", "--name", "cows", n=12)
    assert code == 0, err
    report = read_report(here / "evaluated" / "cows")
    assert report.name == "cows" and report.samples == [story.replace("dog", "cow") for story in STORIES]


@pytest.mark.parametrize(
    ("subject", "options", "message"),
    [
        ("new.jsonl", ["-n", "13"], "real.txt holds 12 texts, fewer than n = 13: lower -n"),
        ("new.jsonl", ["-n", "1"], "n is 1; an evaluation takes at least 2"),
        ("new.jsonl", ["--steps", "3"], "is a file of texts, made already: leave --steps"),
        ("new.jsonl", ["--lm-weight", "1"], "is a file of texts, made already: leave --lm-weight out"),
        ("new.jsonl", ["--precision", "int8"], "is a file of texts, made already: leave --precision out"),
        ("none.jsonl", [], "none.jsonl does not exist"),
        ("nothing", [], "there is no model 'nothing'"),
        ("new.jsonl", ["--own-field", "story"], "no field 'story'; it has: text"),
        ("new.jsonl", ["--against", "none.txt"], "none.txt does not exist"),
        ("new.jsonl", ["--judge", "nowhere.gguf"], "judge 'nowhere.gguf' is not there"),
    ],
)
def test_evaluate_refuses(refused, here, subject, options, message):
    assert message in refused("evaluate", subject, "--against", "real.txt", "--judge", "none", "-n", "10", *options)
    assert not (here / "evaluated").exists()


# --- what answers sources

PAIRS = [{"toxic": f"Bah , a {colour} {animal} !", "polite": f"That {animal} is {colour}."}
         for animal in ("dog", "cat", "bird") for colour in ("red", "old", "new")]  # fmt: skip
FIELDS = ["--source-field", "toxic", "--target-field", "polite"]


@pytest.fixture
def polite(here) -> Path:
    """A model that reads sources, and pairs in fields of their own names and in those of a task."""
    record = {"recipe": {"data": {"task": "detoxification", "source_field": None, "target_field": None}}}
    replace(tiny_model(source_length=6), record=record).save(here / "polite")
    (here / "pairs.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    rows = [{"source": row["toxic"], "targets": [row["polite"], "Fine."]} for row in PAIRS]
    (here / "task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return here


def answered(run, subject: str, against: str, *options: str):
    metrics = ["--metrics", "bleu", "rouge1"] if "--metrics" not in options else []
    return run("evaluate", subject, "--against", against, "--judge", "none", "-n", "6", *metrics, *options)


def test_a_model_answers_the_sources_of_the_data(run, polite):
    code, _, err = answered(run, "polite", "pairs.jsonl", *FIELDS, "--steps", "2", "--guidance", "2", "--mbr", "3")
    assert code == 0, err
    assert "6 of 6 sources were longer than 6 tokens and were cut." in err
    report = read_report(polite / "evaluated" / "polite")
    assert report.manifest["model"]["sampler"]["guidance"] == 2.0 and report.manifest["model"]["mbr"] == 3
    assert {"bleu", "rouge1"} <= report.metrics.keys()
    rows = [json.loads(line) for line in (polite / "evaluated" / "polite" / "texts.jsonl").read_text().splitlines()]
    assert len({row["source"] for row in rows}) == 6
    assert {row["source"] for row in rows} <= {row["toxic"] for row in PAIRS}


def test_the_models_own_task_says_how_data_is_read(run, polite):
    code, _, err = answered(run, "polite", "task.jsonl", "--steps", "2", "--train", "task.jsonl")
    assert code == 0, err
    assert read_report(polite / "evaluated" / "polite").manifest["train"]["texts"] == 18
    code, _, err = answered(run, "polite", "real.txt", "--steps", "2")
    assert code == 0 and "polite answers sources and was given none: it wrote freely." in err


def test_a_rule_answers_too(run, polite):
    code, _, err = answered(run, "rule:copy", "pairs.jsonl", *FIELDS, "--name", "copy")
    assert code == 0, err
    assert read_report(polite / "evaluated" / "copy").samples[0].startswith("Bah")


@pytest.mark.parametrize(
    ("subject", "against", "options", "message"),
    [
        ("MODEL", "task.jsonl", [], "are of different tasks: the references answer sources, and the texts have none"),
        ("MODEL", "real.txt", ["--guidance", "2"], "guidance = 2 weighs the source, and there is none"),
        ("polite", "task.jsonl", ["-n", "10"], "task.jsonl holds 9 different sources, fewer than n = 10: lower -n"),
        ("polite", "task.jsonl", ["--task", "magic"], "there is no task 'magic'; choose one of"),
        ("polite", "pairs.jsonl", [], "Name the source with --source-field"),
        ("polite", "pairs.jsonl", ["--source-field", "toxic"], "--source-field is given alone"),
        ("polite", "task.jsonl", ["--mbr", "0"], "mbr is 0; choose among at least 1"),
        ("polite", "task.jsonl", ["--metrics", "joint"], "joint needs a judge of fluency"),
        ("new.jsonl", "real.txt", ["--mbr", "3"], "is a file of texts, made already: leave --mbr out"),
        ("rule:copy", "task.jsonl", ["--steps", "1"], "is a rule, which samples nothing: leave --steps out"),
        ("rule:copy", "real.txt", [], "rule:copy answers sources and real.txt holds none: give pairs"),
        ("rule:mend", "task.jsonl", [], "there is no rule 'rule:mend'"),
    ],
)
def test_answers_that_cannot_be_evaluated(refused, polite, model, subject, against, options, message):
    given = [model if subject == "MODEL" else subject, "--against", against, "--judge", "none", "-n", "6"]
    metrics = ["--metrics", "bleu"] if "--metrics" not in options else []
    assert message in refused("evaluate", *given, *metrics, *options)
    assert not (polite / "evaluated").exists()


def test_a_task_has_metrics_of_its_own():
    from textcosm.cli.evaluate import PAIRED, metrics_of

    assert "joint" in metrics_of("detoxification")
    assert metrics_of(None) == metrics_of("stories") == PAIRED


def test_compare_writes_markdown_and_a_page(run, here):
    for name in ("new.jsonl", "real.txt"):
        assert evaluate(run, name, "--out", name + ".d")[0] == 0
    code, out, err = run("compare", "new.jsonl.d", "real.txt.d/report.json", "--out", "both.html")
    assert code == 0
    assert out.splitlines()[0] == "| metric | new.jsonl | real.txt |" and "<br>+0.0 [+0.0, +0.0] |" in out
    assert "its difference from new.jsonl" in err
    page = (here / "both.html").read_text()
    assert "<h1>new.jsonl · real.txt</h1>" in page and "model.sha256" in page


def test_compare_refuses_what_differs_unless_told(run, refused, here):
    for n in ("10", "12"):
        assert evaluate(run, "new.jsonl", "--out", n, n=int(n))[0] == 0
    assert "n differs (new.jsonl (1): 10, new.jsonl (2): 12)" in refused("compare", "10", "12")
    code, out, err = run("compare", "10", "12", "--anyway")
    assert code == 0 and "warning: n differs" in err
    assert "a comparison takes at least 2" in refused("compare", "10")
    assert "does not exist" in refused("compare", "10", "none")


def test_tables_are_drawn_on_a_terminal_and_escaped_in_markdown(monkeypatch, capsys):
    rows = [("metric", "a|b"), ("Div", "0.5 [0.4, 0.6]\n+0.1 *")]
    table.print_table(rows, markdown=True)
    assert capsys.readouterr().out.splitlines()[::2] == ["| metric | a\\|b |", "| Div | 0.5 [0.4, 0.6]<br>+0.1 \\* |"]
    stream = io.StringIO()
    monkeypatch.setattr(table, "Console", lambda: Console(file=stream, width=60))
    monkeypatch.setattr(table.sys.stdout, "isatty", lambda: True, raising=False)
    table.print_table(rows)
    assert "│" in stream.getvalue() and "[0.4, 0.6]" in stream.getvalue()


def test_the_command_and_the_library_measure_the_same_by_default():
    from textcosm.cli.evaluate import PAIRED
    from textcosm.evaluation.evaluate import EvaluationConfig

    assert EvaluationConfig().paired == PAIRED
