"""Cheaper matrices: nearly the same numbers, and a note where a machine has none."""

import pytest
import torch
from torch import nn

from textcosm.nn import precision
from textcosm.nn.precision import HalfLinear, Int8Linear, is_able, lower_precision

CPU = torch.device("cpu")
needs = {name: pytest.mark.skipif(not is_able(CPU, name), reason=f"no {name}") for name in ("float16", "int8")}


def error(found, wanted):
    return float((found - wanted).norm() / wanted.norm())


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.SiLU(), nn.Linear(96, 32, bias=False)).requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "limit"), [pytest.param("float16", 1e-3, marks=needs["float16"]), pytest.param("int8", 0.03, marks=needs["int8"])]
)
def test_lower_precision_gives_nearly_the_same_numbers(network, name, limit):
    x = torch.randn(5, 3, 64)
    wanted = network(x)
    assert lower_precision(network, name) is None
    assert 0 < error(network(x), wanted) < limit
    assert not any(isinstance(module, nn.Linear) for module in network.modules())


@needs["int8"]
def test_delicate_layers_keep_float16(network):
    lower_precision(network, "int8", lambda name: name == "2")
    assert isinstance(network[0], Int8Linear) and isinstance(network[2], HalfLinear)


def test_a_machine_without_it_stays_in_float32_and_says_so(network, monkeypatch):
    monkeypatch.setattr(precision, "is_able", lambda device, name: False)
    x = torch.randn(2, 64)
    wanted = network(x)
    note = lower_precision(network, "bfloat16")
    assert note == "bfloat16 has no fast matrices on this cpu: float32 is used"
    assert torch.equal(network(x), wanted)


def test_bfloat16_is_for_autocast(network, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bfloat16", lambda device: True)
    x = torch.randn(4, 64)
    wanted = network(x)
    assert lower_precision(network, "bfloat16") is None
    with torch.autocast("cpu", torch.bfloat16):
        found = network(x)
    assert found.dtype == torch.bfloat16 and error(found.float(), wanted) < 0.02


def test_int8_and_float16_are_for_cpus_alone():
    assert not is_able(torch.device("meta"), "int8") and not is_able(torch.device("meta"), "float16")
    assert is_able(CPU, "float32")
