"""The arithmetic of training."""

import pytest
import torch
from torch import nn

from textcosm.training.flop import matrix_numbers, training_flop, utilisation


def test_numbers_are_those_of_linear_layers():
    assert matrix_numbers(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 2, bias=False))) == 36


def test_a_pass_back_costs_two_passes_forward():
    assert training_flop(10, 3) == 180
    assert training_flop(10, 3, forward_only=0.5) == 210


def test_the_count_agrees_with_what_torch_runs():
    from torch.utils.flop_counter import FlopCounterMode

    network = nn.Sequential(nn.Linear(16, 32), nn.Linear(32, 8))
    x = torch.randn(5, 16, requires_grad=True)
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    assert counter.get_total_flops() == training_flop(matrix_numbers(network), 5)


def test_utilisation_is_known_for_known_devices_in_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    cuda = torch.device("cuda")
    assert utilisation(494.5e12, cuda, torch.bfloat16) == pytest.approx(0.5)
    assert utilisation(494.5e12, cuda, None) is None
    assert utilisation(1e9, torch.device("cpu"), torch.bfloat16) is None
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some Other Device")
    assert utilisation(1e12, cuda, torch.bfloat16) is None
