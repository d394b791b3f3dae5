"""``textcosm bench`` from end to end on a tiny model."""

import json

import pytest

from textcosm.cli import main


@pytest.fixture
def little(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "little")
    return str(tmp_path / "little")


def test_bench_has_a_row_for_each_number_of_steps(little, tmp_path, capsys):
    out = tmp_path / "bench.json"
    code = main(
        ["bench", little, "--steps", "2", "1", "--batch", "1", "3", "--rounds", "2", "--no-fresh", "--device", "cpu",
         "--out", str(out)]
    )  # fmt: skip
    said = capsys.readouterr()
    lines = [line.strip("| ").split(" | ") for line in said.out.splitlines()]
    assert code == 0
    assert lines[0][:5] == ["system", "s / text, batch 1", "x, batch 1", "ms / pass, batch 1", "tokens / s, batch 1"]
    assert [line[0] for line in lines[2:]] == ["little-1", "little-2"]
    assert lines[2][2] == "1.00" and lines[2][-2:] == ["-", "-"]
    assert all(float(cell) > 0 for line in lines[2:] for cell in line[1:9])
    assert "medians of 2 rounds" in said.err
    kept = json.loads(out.read_text(encoding="utf-8"))
    assert kept["little-2"]["passes"] == 2 and len(kept["little-2"]["seconds"]["3"]) == 2
    assert kept["little-1"]["tokens"]["3"][0] >= 3 and kept["little-1"]["fresh"] is None


@pytest.mark.slow
def test_bench_measures_a_cold_start(little, capsys):
    assert main(["bench", f"{little}@1", "--batch", "2", "--rounds", "1", "--threads", "1", "--device", "cpu"]) == 0
    last = capsys.readouterr().out.splitlines()[-1].strip("| ").split(" | ")
    assert last[0] == "little-1" and float(last[-2]) > 0 and float(last[-1]) > 50


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--steps", "0"], "--steps 0: give one or more whole numbers from 1 up"),
        (["--batch", "0"], "--batch 0: give"),
        (["--threads", "0"], "--threads is 0; give at least 1"),
        (["--rounds", "0"], "rounds is 0; time at least 1"),
        (["--task", "stories"], "give --against DATA"),
    ],
)
def test_bench_says_what_it_cannot_do(little, options, reason, capsys):
    assert main(["bench", little, "--device", "cpu", "--no-fresh", *options]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("precision", ["float16", "int8", "bfloat16"])
def test_bench_takes_a_precision_or_says_that_there_is_none(little, precision, capsys):
    import torch

    from textcosm.nn.precision import is_able

    options = ["--batch", "1", "--rounds", "1", "--no-fresh", "--device", "cpu", "--precision", precision]
    assert main(["bench", f"{little}@2", *options]) == 0
    said = f"{precision} has no fast matrices on this cpu: float32 is used" in capsys.readouterr().err
    assert said != is_able(torch.device("cpu"), precision)
