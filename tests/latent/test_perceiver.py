"""The Perceiver stack reads its context, never its padding, and works for any sizes."""

import torch

from textcosm.latent.perceiver import Perceiver, PerceiverLayer


def layer(width: int = 16) -> PerceiverLayer:
    torch.manual_seed(0)
    return PerceiverLayer(width, heads=2, head_width=8, ff_width=32, dropout=0.0)


def test_a_layer_is_attention_over_both_streams_written_out():
    block, queries, context = layer(), torch.randn(2, 3, 16), torch.randn(2, 5, 16)
    normed = block.query_norm(queries)
    own = block.self_key_value(normed).chunk(2, dim=-1)
    read = block.context_key_value(block.context_norm(context)).chunk(2, dim=-1)
    key, value = (torch.cat(pair, dim=1).unflatten(-1, (2, 8)) for pair in zip(own, read, strict=True))
    query = block.head_query_norm(block.query(normed).unflatten(-1, (2, 8)))
    scores = torch.einsum("bqhd,bkhd->bhqk", query, block.head_key_norm(key)) / 8**0.5
    mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value).flatten(-2)
    after = queries + block.out(mixed)
    torch.testing.assert_close(block(queries, context), after + block.feed_forward(after))


def test_masked_context_changes_nothing():
    stack = Perceiver(2, 16, 2, 8, 32, 0.0)
    queries, context = torch.randn(1, 3, 16), torch.randn(1, 5, 16)
    mask = torch.tensor([[True, True, True, False, False]])
    other = torch.where(mask[..., None], context, torch.full_like(context, 9.0))
    torch.testing.assert_close(stack(queries, context, mask), stack(queries, other, mask))
    torch.testing.assert_close(stack(queries, context, mask), stack(queries, context[:, :3]))


def test_layers_do_not_share_weights_and_projections_have_no_biases():
    stack = Perceiver(3, 16, 2, 8, 32, 0.0)
    names = [name for name, _ in stack.named_parameters()]
    assert len({id(p) for p in stack.parameters()}) == len(names)
    assert not [name for name in names if name.endswith("bias") and "feed_forward" not in name]
