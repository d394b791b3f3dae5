"""Every solver's order of convergence, on a Gaussian with a known answer (gaussian.py)."""

import math
import runpy
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from diffusion import gaussian
from textcosm.diffusion.process import Point
from textcosm.diffusion.solvers import SOLVERS, DPMSolverMultistep, Heun, Solver, open_solver
from textcosm.errors import ConfigError

# Below 0.95 the rate beta is not clipped, so that every equation is the exact one.
START, END = 0.9, 0.1
ORDERS = {"pf-euler": 1, "ddim": 1, "heun": 2, "dpm++2m": 2}
WEAK_ORDERS = {"euler-maruyama": 1, "ddpm": 1}


def walk(solver, noisy, steps, process, start=START):
    past = None
    for time, target in pairwise(torch.linspace(start, END, steps + 1, dtype=torch.float64).tolist()):
        now = Point(time, noisy, process.denoise(noisy, time, past.clean if past else None))
        noisy, past = solver.step(process, now, target, past), now
    return noisy


def observed_order(error, steps):
    return math.log2(error(steps) / error(2 * steps))


def path_error(solver, start=START):
    """Largest distance from the exact probability flow, as a function of the number of steps."""
    noisy = torch.tensor([[[-1.0, 0.3, 2.0]]], dtype=torch.float64)
    exact = gaussian.flow(noisy, start, END)
    return lambda steps: (walk(solver, noisy, steps, gaussian.process(), start) - exact).abs().max().item()


def moments(solver, steps):
    """Mean and standard deviation of the end of a stochastic walk, without sampling.

    On a Gaussian a step is ``a x + b + c noise``: three rows (x = mean, x = mean + 1, and noise = 1) measure it.
    """
    noise = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).view(3, 1, 1)
    mean, variance = gaussian.SCHEDULE.alpha(START) * gaussian.MEAN, gaussian.total(START) ** 2
    process = gaussian.process(lambda: noise)
    for time, target in pairwise(torch.linspace(START, END, steps + 1, dtype=torch.float64).tolist()):
        noisy = mean + torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).view(3, 1, 1)
        now = Point(time, noisy, process.denoise(noisy, time, None))
        mean, moved, stirred = solver.step(process, now, target, None).flatten()
        variance = (moved - mean) ** 2 * variance + (stirred - mean) ** 2
    return mean, variance.sqrt()


def moment_error(solver):
    expected = gaussian.SCHEDULE.alpha(END) * gaussian.MEAN, gaussian.total(END)

    def error(steps):
        return max((got - want).abs().item() for got, want in zip(moments(solver, steps), expected, strict=True))

    return error


def test_every_solver_is_tested():
    assert set(SOLVERS) == {*ORDERS, *WEAK_ORDERS}


@pytest.mark.parametrize("name", ORDERS)
def test_order_along_the_path(name):
    assert observed_order(path_error(open_solver(name)), 64) == pytest.approx(ORDERS[name], abs=0.06)


@pytest.mark.parametrize("name", WEAK_ORDERS)
def test_weak_order(name):
    assert observed_order(moment_error(open_solver(name)), 64) == pytest.approx(WEAK_ORDERS[name], abs=0.06)


@pytest.mark.parametrize("name", ["ddim", "heun", "dpm++2m"])
def test_order_from_pure_noise(name):
    """These never divide by alpha, so they keep their order where alpha is 0."""
    assert observed_order(path_error(open_solver(name), start=1.0), 64) == pytest.approx(ORDERS[name], abs=0.06)


def test_second_order_pays():
    ddim = path_error(open_solver("ddim"))(40)
    assert path_error(DPMSolverMultistep())(40) < ddim / 5
    assert path_error(Heun())(20) < ddim / 3  # two passes of the network a step: as much work


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("target", [0.05, 0.0])
def test_one_step_from_pure_noise_is_finite(name, target):
    process = gaussian.process()
    noisy = torch.linspace(-2, 2, 3, dtype=torch.float64).view(3, 1, 1)
    start = Point(1.0, noisy, process.denoise(noisy, 1.0, None))
    assert open_solver(name).step(process, start, target, None).isfinite().all()
    later = Point(0.5, noisy, process.denoise(noisy, 0.5, None))
    assert open_solver(name).step(process, later, target, start).isfinite().all()


@pytest.mark.parametrize("name", ["ddim", "ddpm", "heun", "dpm++2m"])
def test_a_known_x_0_is_reached_in_one_step(name):
    clean = torch.full((3, 1, 1), 0.7, dtype=torch.float64)
    process = gaussian.process()
    process = type(process)(process.schedule, lambda noisy, time, past: clean, process.draw)
    now = Point(0.8, torch.ones_like(clean), clean)
    torch.testing.assert_close(open_solver(name).step(process, now, 0.0, None), clean)


def test_the_example_of_a_solver_from_outside():
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "custom_solver.py"))
    assert isinstance(example["Midpoint"](), Solver)
    assert observed_order(path_error(example["Midpoint"](), start=1.0), 64) == pytest.approx(2, abs=0.06)


def test_heun_conditions_its_second_pass_on_its_first():
    seen = []

    def denoise(noisy, time, self_condition):
        seen.append((time, self_condition))
        return noisy

    process = gaussian.process()
    process = type(process)(process.schedule, denoise, process.draw)
    now = Point(0.8, torch.ones(3, 1, 1), torch.zeros(3, 1, 1))
    Heun().step(process, now, 0.5, None)
    assert seen == [(0.5, now.clean)]


def test_solvers_satisfy_the_protocol():
    assert all(isinstance(open_solver(name), Solver) for name in SOLVERS)


def test_unknown_name_lists_those_there_are():
    with pytest.raises(ConfigError, match=r"'eular' is unknown; choose one of: euler-maruyama, .*dpm\+\+2m"):
        open_solver("eular")
