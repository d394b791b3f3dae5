import pytest
import torch
from torch import nn

from textcosm.diffusion.denoiser import Denoiser, DenoiserConfig, rotary, rotate, time_embedding
from textcosm.errors import ConfigError

SMALL = {"width": 16, "depth": 4, "heads": 2, "ff_width": 24}


def build(latent_width=16, source_width=0, awake=True, **changes):
    torch.manual_seed(0)
    denoiser = Denoiser(DenoiserConfig(**(SMALL | changes)), latent_width, source_width).eval()
    if awake:  # the matrices that start at zero would hide what they do
        for parameter in denoiser.parameters():
            nn.init.normal_(parameter, std=0.3)
    return denoiser


def inputs(batch=3, slots=6, width=16):
    generator = torch.Generator().manual_seed(1)
    noisy, guess = torch.randn(2, batch, slots, width, generator=generator)
    return noisy, torch.rand(batch, generator=generator), guess


def source(batch=3, length=7, width=8):
    activations = torch.randn(batch, length, width, generator=torch.Generator().manual_seed(2))
    return activations, torch.arange(length) < torch.arange(length - batch, length)[:, None] + 1


def test_the_published_size():
    with torch.device("meta"):
        denoiser = Denoiser(DenoiserConfig(), latent_width=768)
    assert sum(p.numel() for p in denoiser.parameters()) / 1e6 == pytest.approx(129.8, abs=0.05)


@pytest.mark.parametrize(("depth", "multiples"), [(4, [1, 1, 2, 3]), (5, [1, 1, 1, 2, 3]), (1, [1])])
def test_mirrored_skips(depth, multiples):
    """Blocks start as the identity: their inputs are then multiples of the noisy latents."""
    denoiser, seen = build(depth=depth, awake=False), []
    for block in denoiser.blocks:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    noisy, time, _ = inputs()
    denoiser(noisy, time)
    for block_input, multiple in zip(seen, multiples, strict=True):
        torch.testing.assert_close(block_input, multiple * noisy)


def test_latents_are_the_stream_where_the_widths_agree():
    assert not list(build().enter.parameters()) + list(build().leave.parameters())
    assert build(projections=True).enter.weight.shape == (16, 16)
    assert build(latent_width=12).leave.weight.shape == (12, 16)


@pytest.mark.parametrize("changes", [{}, {"latent_width": 12}, {"slots": 6}, {"source_depth": 2, "source_width": 8},
                                     {"source_depth": 1, "source_width": 8, "source_latents": True}])  # fmt: skip
def test_every_parameter_learns(changes):
    denoiser = build(**changes)
    noisy, time, guess = inputs(width=changes.get("latent_width", 16))
    memory = denoiser.encode_source(*source(), torch.randn_like(noisy)) if denoiser.source else None
    clean = denoiser(noisy, time, guess, memory)
    assert clean.shape == noisy.shape
    clean.square().mul(torch.rand_like(clean)).sum().backward()
    assert [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_no_self_condition_is_one_of_zeros():
    denoiser, (noisy, time, guess) = build(), inputs()
    torch.testing.assert_close(denoiser(noisy, time), denoiser(noisy, time, torch.zeros_like(noisy)))
    assert not torch.allclose(denoiser(noisy, time), denoiser(noisy, time, guess), atol=1e-3)


def test_time_matters():
    denoiser, (noisy, time, _) = build(), inputs()
    assert not torch.allclose(denoiser(noisy, time), denoiser(noisy, time / 2), atol=1e-3)


def test_a_row_does_not_see_the_others():
    denoiser, (noisy, time, guess) = build(), inputs()
    torch.testing.assert_close(
        denoiser(noisy, time, guess)[1:2], denoiser(noisy[1:2], time[1:2], guess[1:2]), atol=1e-5, rtol=1e-5
    )


def test_every_slot_sees_every_other():
    denoiser, (noisy, time, _) = build(), inputs(batch=1)
    noisy.requires_grad_()
    (gradient,) = torch.autograd.grad(denoiser(noisy, time)[0, 2].sum(), noisy)
    assert (gradient.abs().amax(dim=(0, 2)) > 0).all()


def test_rotary_scores_depend_on_the_distance_alone():
    query, key = torch.randn(2, 1, 1, 16, dtype=torch.float64)
    angles = rotary(9, 8, query)
    turned = [rotate(x.expand(1, 9, 16), 2, angles)[0] for x in (query, key)]
    scores = turned[0] @ turned[1].T
    torch.testing.assert_close(scores[3, 1], scores[7, 5], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores[0, 0], (query * key).sum())
    assert (scores[3, 1] - scores[3, 2]).abs() > 1e-3


def test_time_embedding_is_smooth_and_tells_times_apart():
    near = time_embedding(torch.tensor([0.5, 0.5001, 0.9]), 16)
    assert near.shape == (3, 16)
    assert (near[0] - near[1]).norm() < 1e-3 < 0.3 < (near[0] - near[2]).norm()


def test_padding_of_the_source_is_not_read():
    denoiser, (noisy, time, _) = build(source_depth=2, source_width=8), inputs()
    activations, mask = source()
    assert not mask.all()
    other = torch.where(mask[..., None], activations, torch.full_like(activations, 9.0))
    read = [denoiser(noisy, time, None, denoiser.encode_source(a, mask)) for a in (activations, other)]
    torch.testing.assert_close(*read)


def test_the_source_matters_and_may_be_left_out():
    denoiser, (noisy, time, _) = build(source_depth=1, source_width=8), inputs()
    activations, mask = source()
    memory, other = denoiser.encode_source(activations, mask), denoiser.encode_source(activations.flip(0), mask)
    without = denoiser(noisy, time)
    assert not torch.allclose(denoiser(noisy, time, None, memory), denoiser(noisy, time, None, other), atol=1e-3)
    assert not torch.allclose(denoiser(noisy, time, None, memory), without, atol=1e-3)


def test_no_source_is_the_null_alone():
    denoiser, (noisy, time, guess) = build(source_depth=2, source_width=8), inputs()
    memory, nothing = denoiser.encode_source(*source()), denoiser.no_source(3)
    assert memory.mask.shape == (3, 8) and memory.mask[:, 0].all() and nothing.mask.shape == (3, 1)
    without = denoiser(noisy, time, guess)
    torch.testing.assert_close(denoiser(noisy, time, guess, nothing), without)
    hidden = memory.without(torch.tensor([True, False, True]))
    some = denoiser(noisy, time, guess, hidden)
    torch.testing.assert_close(some[[0, 2]], without[[0, 2]])
    torch.testing.assert_close(some[1], denoiser(noisy, time, guess, memory)[1])
    assert not torch.allclose(some[1], without[1], atol=1e-3)


def test_sources_are_standardised():
    denoiser, (noisy, time, _) = build(source_depth=1, source_width=8), inputs()
    activations, mask = source()
    plain = denoiser(noisy, time, None, denoiser.encode_source(activations, mask))
    mean, std = torch.arange(8.0), torch.linspace(1, 30, 8)
    denoiser.source.set_statistics(mean, std)
    read = denoiser(noisy, time, None, denoiser.encode_source(activations * std + mean, mask))
    torch.testing.assert_close(read, plain, atol=1e-4, rtol=1e-4)
    assert {"source.activation_mean", "source.null"} <= denoiser.state_dict().keys()


def test_memory_of_some_rows():
    denoiser, (noisy, time, _) = build(source_depth=1, source_width=8), inputs()
    memory = denoiser.encode_source(*source())
    whole = denoiser(noisy, time, None, memory)
    torch.testing.assert_close(denoiser(noisy[:2], time[:2], None, memory[:2]), whole[:2])
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(denoiser(noisy[order], time[order], None, memory[order]), whole[order])


def test_the_latents_of_a_source_are_read_slot_by_slot_unless_it_is_dropped():
    denoiser, (noisy, time, _) = build(source_depth=1, source_width=8, source_latents=True), inputs()
    beside = torch.randn_like(noisy)
    memory = denoiser.encode_source(*source(), beside)
    told = denoiser(noisy, time, None, memory)
    assert not torch.allclose(told, denoiser(noisy, time, None, denoiser.encode_source(*source(), -beside)), atol=1e-3)
    rows = torch.tensor([False, True, True])
    dropped = denoiser(noisy, time, None, memory.without(rows))
    torch.testing.assert_close(dropped[0], told[0])
    torch.testing.assert_close(dropped[1:], denoiser(noisy, time)[1:])
    torch.testing.assert_close(denoiser(noisy[1:], time[1:], None, memory[1:]), told[1:])
    with pytest.raises(ConfigError, match="reads the latents of a source beside its activations: give them too"):
        denoiser.encode_source(*source())


def test_bfloat16_autocast():
    denoiser, (noisy, time, guess) = build(source_depth=1, source_width=8), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        clean = denoiser(noisy, time, guess, denoiser.encode_source(*source()))
    assert clean.isfinite().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"width": 18}, r"width = 18 must be a multiple of 2 x heads = 4"),
        ({"depth": 0}, "depth = 0 is below 1"),
        ({"source_depth": -1}, "source_depth = -1 is below 0"),
        ({"dropout": 1.0}, "dropout = 1.0 is outside"),
        ({"source_depth": 1}, "source_depth = 1 needs source_width"),
        ({"source_latents": True}, "source_latents needs a source encoder"),
    ],
)
def test_wrong_settings(wrong, message):
    with pytest.raises(ConfigError, match=message):
        build(**wrong)


def test_wrong_inputs():
    noisy, time, _ = inputs()
    with pytest.raises(ConfigError, match="6 latents given to a denoiser of 5 slots"):
        build(slots=5)(noisy, time)
    with pytest.raises(ConfigError, match="takes no source"):
        build().encode_source(*source())
    with pytest.raises(ConfigError, match="takes no source"):
        build().no_source(2)
    memory = build(source_depth=1, source_width=8).encode_source(*source())
    with pytest.raises(ConfigError, match="source_depth = 0"):
        build()(noisy, time, None, memory)
