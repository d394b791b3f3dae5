"""The scripts in benchmarks/, at small sizes: what they compare computes the same."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from textcosm.nn.precision import is_able

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CPU = torch.device("cpu")


def script(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_straightforward_step_is_ours():
    step = script("step")
    sizes = step.Sizes(width=64, depth=4, heads=4, ff_width=128, slots=8)
    given = step.inputs(3, sizes, CPU)
    with torch.no_grad():
        found = {name: run(*given) for name, run in step.variants(sizes, (), CPU).items()}
    ours, plain = found["ours, float32"], found["straightforward, float32"]
    assert float(ours.std()) > 0.1
    assert torch.allclose(ours, plain, atol=1e-4)


@pytest.mark.parametrize(("precision", "limit"), [("float16", 1e-3), ("int8", 0.03)])
def test_cheaper_steps_are_nearly_ours(precision, limit):
    if not is_able(CPU, precision):
        pytest.skip(f"no {precision} here")
    step = script("step")
    sizes = step.Sizes(width=64, depth=4, heads=4, ff_width=128, slots=8)
    given = step.inputs(3, sizes, CPU)
    with torch.no_grad():
        found = {name: run(*given) for name, run in step.variants(sizes, (precision,), CPU).items()}
    ours, cheap = found["ours, float32"], found[f"ours, {precision}"]
    assert 0 < float((cheap - ours).norm() / ours.norm()) < limit


def test_the_step_table_has_a_row_for_each(capsys):
    step = script("step")
    sizes = step.Sizes(width=32, depth=2, heads=2, ff_width=64, slots=4)
    step.main(batch=(1, 2), rounds=1, precisions=(), threads=torch.get_num_threads(), sizes=sizes)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| one step | ms, batch 1 | x, batch 1 | ms, batch 2 | x, batch 2 |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| straightforward, float32", "| ours, float32"]


def test_both_training_loops_train_and_stand_in_the_table(capsys):
    training = script("training")
    sizes = training.Sizes(
        width=32, heads=2, encoder_depth=1, compressor_depth=1, denoiser_depth=2, ff_width=64, tokens=12, slots=4
    )
    training.main(batch_size=4, rounds=2, threads=torch.get_num_threads(), sizes=sizes)
    said = capsys.readouterr()
    rows = [line.strip("| ").split(" | ") for line in said.out.splitlines()]
    assert [row[0] for row in rows[2:]] == ["the paper's loop", "cached latents"]
    assert rows[2][2] == "1.00" and float(rows[3][1]) > 0
    assert "texts of training on its latents" in said.err
