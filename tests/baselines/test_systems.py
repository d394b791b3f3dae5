"""Systems to be compared: opened by name and number of steps, with the arithmetic of a text."""

import numpy as np
import pytest

from textcosm.baselines.systems import open_systems, parse, write_afresh
from textcosm.errors import ConfigError
from textcosm.evaluation.bench import in_fresh_process, peak_resident


@pytest.fixture
def little(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "little")
    return str(tmp_path / "little")


def test_a_model_is_there_once_for_each_number_of_steps(little):
    systems = open_systems([little, f"{little}@1"], (2, 3), "cpu")
    assert [(s.name, s.steps, s.passes) for s in systems] == [("little-2", 2, 2), ("little-3", 3, 3), ("little-1", 1, 1)]
    assert systems[0].write(2, seed=4) == systems[0].write(2, seed=4) != systems[0].write(2, seed=5)


def test_refinements_stand_after_a_plus(little):
    (system,) = open_systems([f"{little}@2+1"], (5,), "cpu")
    assert (system.name, system.steps, system.refine, system.passes) == ("little-2+1", 2, 1, 3)
    (plain,) = open_systems([f"{little}@2"], (5,), "cpu")
    assert system.gflop > 1.5 * plain.gflop and system.write(2, seed=4) != plain.write(2, seed=4)
    with pytest.raises(ConfigError, match="asks for 'x' refinements: give a whole number after the +"):
        parse("a@3+x")


def test_multiplications_are_counted(tiny_model, little):
    (system,) = open_systems([little], (3,), "cpu")
    denoiser = sum(p.numel() for p in tiny_model.denoiser.parameters())
    decoder = sum(p.numel() for p in tiny_model.autoencoder.decompressor.parameters())
    head = tiny_model.autoencoder.token_head.weight.numel()
    assert (system.embedding, system.other) == (head, denoiser + decoder)
    assert system.gflop == pytest.approx(2e-9 * (3 * 8 * denoiser + 24 * (decoder + head)))


def test_tokens_are_those_of_the_systems_own_vocabulary(little):
    (system,) = open_systems([little], (1,), "cpu")
    one, two = system.tokens(["a b c"]), system.tokens(["a b c", "a b c"])
    assert one > 3 and two == 2 * one


def test_two_systems_of_one_name_are_refused(little):
    with pytest.raises(ConfigError, match="two systems are called 'little-5'"):
        open_systems([little, f"{little}@5"], (5,), "cpu")


@pytest.mark.parametrize("given", ["a@", "a@0", "a@x"])
def test_steps_after_the_at_are_a_whole_number(given):
    with pytest.raises(ConfigError, match="give a whole number from 1 up after the @"):
        parse(given)


@pytest.mark.slow
def test_a_fresh_process_tells_its_own_memory_and_time(little):
    ballast = np.ones(300_000_000, dtype=np.uint8)  # this process's memory must not be counted
    fresh = in_fresh_process(write_afresh, little, "1", "cpu", "1", "4")
    assert 50 < fresh.resident < peak_resident() - ballast.nbytes / 2e6
    assert fresh.cuda is None or fresh.cuda >= 0
    assert 0.1 < fresh.seconds < 600
