"""Muon against the singular value decomposition, and which parameter goes to which optimiser."""

import pytest
import torch
from torch import nn

from textcosm.training.optim import Muon, build_optimizers, orthogonalise, set_rate, split_parameters


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (32, 8)])
def test_orthogonalise_keeps_the_singular_vectors_and_evens_the_values(shape):
    matrix = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    u, _, vt = torch.linalg.svd(matrix[0], full_matrices=False)
    core = u.T @ orthogonalise(matrix)[0] @ vt.T
    values = core.diagonal()
    assert (core - values.diag()).abs().max() < 1e-3
    assert values.min() > 0.5 and values.max() < 1.3


def test_orthogonalise_treats_each_matrix_of_a_batch_alone():
    matrices = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(2))
    matrices[1] *= 1000
    alone = torch.cat([orthogonalise(matrix[None]) for matrix in matrices])
    torch.testing.assert_close(orthogonalise(matrices), alone)


def test_orthogonalise_leaves_zero_alone():
    assert not orthogonalise(torch.zeros(1, 4, 6)).any()


def test_muon_steps_by_its_rate_whatever_the_gradient():
    for scale in (1e-4, 1e4):
        weight = nn.Parameter(torch.zeros(8, 8))
        weight.grad = scale * torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
        Muon([weight], lr=0.1).step()
        assert 0.05 < torch.linalg.matrix_norm(weight.detach(), 2) < 0.13


def test_muon_scales_tall_matrices_and_decays():
    tall, wide = nn.Parameter(torch.ones(16, 4)), nn.Parameter(torch.ones(4, 16))
    gradient = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    tall.grad, wide.grad = gradient, gradient.T.clone()
    Muon([tall, wide], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(tall.detach().T - 0.95, 2 * (wide.detach() - 0.95))


def test_muon_fits_a_linear_map():
    generator = torch.Generator().manual_seed(3)
    goal, inputs = torch.randn(6, 8, generator=generator), torch.randn(64, 8, generator=generator)
    weight = nn.Parameter(torch.zeros(6, 8))
    optimizer = Muon([weight], lr=0.1)
    losses = []
    for step in range(100):
        optimizer.zero_grad()
        loss = ((inputs @ (weight - goal).T) ** 2).mean()
        loss.backward()
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 100)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]


def test_split_by_place_and_shape(toy_stage):
    split = split_parameters(toy_stage().module)
    assert set(split.hidden) == {"blocks.0.weight"}
    assert set(split.decayed) == {"enter.weight", "leave.2.weight"}
    assert set(split.plain) == {"enter.bias", "leave.1.weight", "leave.1.bias", "leave.2.bias"}


def test_frozen_parameters_belong_to_nobody(toy_stage):
    module = toy_stage().module
    module.enter.requires_grad_(False)
    split = split_parameters(module)
    assert not {"enter.weight", "enter.bias"} & {*split.hidden, *split.decayed, *split.plain}


@pytest.mark.parametrize(("kind", "count"), [("adamw", 1), ("muon", 2)])
def test_every_parameter_has_one_optimiser(toy_stage, kind, count):
    module = toy_stage().module
    optimizers = build_optimizers(module, kind, 1e-3, 0.02, 0.1, (0.9, 0.98), 1e-6)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    assert len(optimizers) == count
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in module.parameters())
    assert [group["weight_decay"] for group in groups if any(p.ndim == 1 for p in group["params"])] == [0.0]
    set_rate(optimizers, 0.5)
    assert [group["lr"] for group in groups] == [0.5e-3, 0.5e-3, 0.01][: count + 1]
