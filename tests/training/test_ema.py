"""The averaged weights."""

import pytest
import torch
from torch import nn

from textcosm.training.ema import Ema


def test_average_follows_its_formula_with_a_warm_up():
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = Ema(module, 0.9)
    expected = 0.0
    for step in range(1, 201):
        nn.init.constant_(module.weight, float(step))
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    assert ema.average["weight"].item() == pytest.approx(expected, rel=1e-5)


def test_applied_swaps_and_gives_back_even_after_an_error():
    module = nn.Linear(2, 2)
    ema = Ema(module, 0.5)
    own = module.weight.detach().clone() + 1
    module.weight.data.copy_(own)
    with pytest.raises(RuntimeError, match="on the way"), ema.applied():
        torch.testing.assert_close(module.weight.detach(), own - 1)
        raise RuntimeError("on the way")
    torch.testing.assert_close(module.weight.detach(), own)


def test_frozen_parameters_are_not_averaged():
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    assert set(Ema(module, 0.5).average) == {"weight"}
