"""The loop: exact resume, stops, bad losses, and what it reports."""

import dataclasses

import pytest
import torch
from torch import nn

from textcosm.errors import ConfigError, TrainingError
from textcosm.training.fit import (
    FitConfig,
    Stage,
    autocast_dtype,
    compile_blocks,
    fit,
    learning_rate_factor,
    seed_of,
)
from textcosm.training.journal import read_journal
from textcosm.training.state import STATE_FILE, load_trained

CONFIG = FitConfig(
    steps=12, batch_size=8, learning_rate=0.01, warmup=3, log_every=1, valid_every=4, optimizer="muon", ema=0.9
)


def run(stage, directory, config=CONFIG, stop_at=None):
    """Train and return the reports; stop before the step after ``stop_at``."""
    reports = []
    for report in fit(stage, config, directory, seed=1, stop=lambda: len(reports) == stop_at):
        reports.append(report)
    return reports


def losses(directory):
    timing = {"texts_per_second", "seconds"}
    records = read_journal(directory / "journal.jsonl")
    return [{name: value for name, value in record.items() if name not in timing} for record in records]


def test_the_toy_is_a_stage(toy_stage):
    assert isinstance(toy_stage(), Stage)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_stopped_and_resumed_is_as_if_never_stopped(toy_stage, tmp_path, optimizer):
    config = dataclasses.replace(CONFIG, optimizer=optimizer)
    run(toy_stage(), tmp_path / "whole", config)
    for stop_at in (5, 2, None):
        torch.manual_seed(99)  # the caller's randomness does not matter
        run(toy_stage(), tmp_path / "parts", config, stop_at)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")
    whole, parts = toy_stage().module, toy_stage().module
    load_trained(whole, tmp_path / "whole")
    load_trained(parts, tmp_path / "parts")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), parts.parameters(), strict=True))


def test_a_stop_between_two_reports_loses_nothing_of_the_mean(toy_stage, tmp_path):
    config = dataclasses.replace(CONFIG, log_every=6)
    run(toy_stage(), tmp_path / "whole", config)
    asked = iter(range(100))
    list(fit(toy_stage(), config, tmp_path / "parts", seed=1, stop=lambda: next(asked) == 4))
    assert losses(tmp_path / "parts") == []
    run(toy_stage(), tmp_path / "parts", config)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_a_crash_goes_on_from_the_last_saved_state(toy_stage, tmp_path):
    config = dataclasses.replace(CONFIG, checkpoint_seconds=0)
    run(toy_stage(), tmp_path / "whole", config)
    for report in fit(toy_stage(), config, tmp_path / "parts", seed=1):
        if report.step == 7:
            break
    with (tmp_path / "parts" / "journal.jsonl").open("a") as journal:
        journal.write('{"step": 8, "loss": 1}\n{"st')
    run(toy_stage(), tmp_path / "parts", config)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_a_finished_run_does_nothing_more(toy_stage, tmp_path):
    run(toy_stage(), tmp_path)
    before = (tmp_path / STATE_FILE).stat().st_mtime_ns
    assert run(toy_stage(), tmp_path) == []
    assert (tmp_path / STATE_FILE).stat().st_mtime_ns == before


def test_a_constant_schedule_can_be_prolonged(toy_stage, tmp_path):
    config = dataclasses.replace(CONFIG, schedule="constant")
    run(toy_stage(), tmp_path / "whole", config)
    run(toy_stage(), tmp_path / "parts", dataclasses.replace(config, steps=8, valid_every=4))
    run(toy_stage(), tmp_path / "parts", config)
    assert losses(tmp_path / "whole") == losses(tmp_path / "parts")


def test_other_seeds_give_other_losses_and_the_callers_generator_is_left_alone(toy_stage, tmp_path):
    before = torch.get_rng_state()
    run(toy_stage(), tmp_path / "one")
    list(fit(toy_stage(), CONFIG, tmp_path / "two", seed=2))
    assert torch.equal(before, torch.get_rng_state())
    assert losses(tmp_path / "one") != losses(tmp_path / "two")


def test_reports(toy_stage, tmp_path):
    reports = run(toy_stage(), tmp_path, dataclasses.replace(CONFIG, log_every=5))
    assert [report.step for report in reports] == [5, 10, 12]
    last = reports[-1]
    assert (last.stage, last.steps, last.seconds_left) == ("toy", 12, 0.0)
    assert set(last.metrics) == {"loss", "half", "gradient_norm", "valid_weight"}
    assert last.metrics["half"] == pytest.approx(last.metrics["loss"] / 2)
    assert last.texts_per_second > 0 and reports[0].seconds_left > 0
    record = read_journal(tmp_path / "journal.jsonl")[0]
    assert record["step"] == 5 and {"learning_rate", "texts_per_second", "seconds"} < set(record)


def test_training_learns(toy_stage, tmp_path):
    reports = run(toy_stage(), tmp_path, dataclasses.replace(CONFIG, steps=80, ema=0))
    assert reports[-1].metrics["loss"] < 0.6 * reports[0].metrics["loss"]


def test_validation_sees_the_average_and_training_goes_on_from_its_own(toy_stage, tmp_path):
    stage = toy_stage()
    reports = run(stage, tmp_path)
    own = stage.validate()["weight"]
    assert reports[-1].metrics["valid_weight"] != pytest.approx(own, abs=1e-7)
    load_trained(stage.module, tmp_path)
    assert reports[-1].metrics["valid_weight"] == pytest.approx(stage.validate()["weight"], rel=1e-5)


@pytest.mark.parametrize("log_every", [1, 100])
def test_not_a_number_stops_with_the_step_and_keeps_the_good_state(toy_stage, tmp_path, log_every):
    config = dataclasses.replace(CONFIG, log_every=log_every)
    run(toy_stage(), tmp_path, config, stop_at=0)
    good = (tmp_path / STATE_FILE).read_bytes()
    with pytest.raises(TrainingError, match="toy: the loss or its gradient is not a number at step 7; lower the"):
        run(toy_stage(bad_step=6), tmp_path, config)
    assert (tmp_path / STATE_FILE).read_bytes() == good


def test_a_full_disk_is_one_line_and_keeps_the_earlier_state(toy_stage, tmp_path, monkeypatch):
    import safetensors.torch

    run(toy_stage(), tmp_path, stop_at=2)
    good = (tmp_path / STATE_FILE).read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(TrainingError, match="No space left on device.*earlier state is intact") as caught:
        run(toy_stage(), tmp_path)
    assert "\n" not in str(caught.value)
    assert (tmp_path / STATE_FILE).read_bytes() == good
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_state_is_one_line(toy_stage, tmp_path):
    run(toy_stage(), tmp_path, stop_at=2)
    content = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(TrainingError, match="is damaged .*delete it"):
        run(toy_stage(), tmp_path)


def test_the_state_of_another_model_is_refused_by_name(toy_stage, tmp_path):
    run(toy_stage(), tmp_path, stop_at=1)
    with pytest.raises(TrainingError, match="does not fit the model of these settings .first at 'bias'"):
        load_trained(nn.Linear(2, 2), tmp_path)
    with pytest.raises(TrainingError, match="holds no training state"):
        load_trained(nn.Linear(2, 2), tmp_path / "elsewhere")


def test_learning_rate_warms_up_then_falls_to_its_floor():
    config = FitConfig(steps=110, learning_rate=1.0, final_learning_rate=0.1, warmup=10)
    assert [learning_rate_factor(config, step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate_factor(config, 60) == pytest.approx(0.55)
    assert learning_rate_factor(config, 110) == pytest.approx(0.1)
    constant = dataclasses.replace(config, schedule="constant")
    assert [learning_rate_factor(constant, step) for step in (4, 50, 500)] == pytest.approx([0.5, 1.0, 1.0])


def test_seeds_differ_by_any_part():
    parts = [(0, "order", 1), (0, "order", 2), (1, "order", 1), (0, "noise", 1)]
    assert len({seed_of(*each) for each in parts}) == len(parts)
    assert seed_of(*parts[0]) == seed_of(*parts[0]) < 2**63


def test_precision_auto_asks_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    assert autocast_dtype("float32", cpu) is None
    assert autocast_dtype("bfloat16", cpu) is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert autocast_dtype("auto", cpu) is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True}, raising=False)
    assert autocast_dtype("auto", cpu) is None
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert autocast_dtype("auto", torch.device("cuda")) is torch.bfloat16


def test_bfloat16_trains(toy_stage, tmp_path):
    run(toy_stage(), tmp_path, dataclasses.replace(CONFIG, steps=2, precision="bfloat16"))
    assert len(losses(tmp_path)) == 2


def test_compile_reaches_every_block_and_nothing_else(toy_stage, monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    module = toy_stage().module
    compile_blocks(module)
    assert compiled == list(module.blocks)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"warmup": -1}, "warmup is -1; it must be 0 or more"),
        ({"ema": 1.0}, "ema holds 1.0; it must be at least 0 and below 1"),
        ({"betas": (0.9, 1.5)}, "betas holds 1.5"),
        ({"schedule": "linear"}, "schedule 'linear' is unknown; choose one of cosine, constant"),
        ({"optimizer": "sgd"}, "choose one of adamw, muon"),
        ({"precision": "float16"}, "choose one of auto, float32, bfloat16"),
    ],
)
def test_settings_out_of_range(settings, message):
    config = FitConfig()
    for name, value in settings.items():
        object.__setattr__(config, name, value)  # the type checker of the tests would refuse some before we do
    with pytest.raises(ConfigError, match=message):
        config.__post_init__()
