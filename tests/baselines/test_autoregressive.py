"""The autoregressive rival: its loss is transformers' own, its samples are what its chances say."""

import pytest
import torch

from textcosm.baselines.nucleus import choose, uniforms_of
from textcosm.baselines.settings import RivalSampler


@pytest.fixture
def rival_network(network):
    return network("autoregressive")


def test_the_loss_is_that_of_transformers(rival_network, vocabulary, batch):
    """But for the mask, which transformers' loss takes for one more token that may come."""
    tokens = vocabulary.shrink(batch.tokens)
    whole = rival_network._language_model
    with torch.no_grad():
        whole.lm_head.weight = torch.nn.Parameter(whole.lm_head.weight[: vocabulary.mask])
        logits = whole(input_ids=tokens, attention_mask=batch.mask.long()).logits
        ours = rival_network.losses(tokens, batch.mask, torch.Generator())["loss"]
    labels = tokens.masked_fill(~batch.mask, -100)
    theirs = whole.loss_function(logits=logits, labels=labels, vocab_size=vocabulary.mask)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_neither_padding_nor_a_token_never_seen_is_scored(rival_network, vocabulary, batch):
    tokens = vocabulary.shrink(batch.tokens)
    with torch.no_grad():
        together = rival_network.losses(tokens, batch.mask, torch.Generator())["loss"]
        total, count = 0.0, 0
        for row, mask in zip(tokens, batch.mask, strict=True):
            length = int(mask.sum())
            part = rival_network.losses(row[None, :length], mask[None, :length], torch.Generator())["loss"]
            total, count = total + float(part) * (length - 1), count + length - 1
        assert float(together) == pytest.approx(total / count, abs=1e-5)
        cut = tokens[:1, :4].clone()
        before = rival_network.losses(cut[:, :3], batch.mask[:1, :3], torch.Generator())["loss"]
        cut[0, 3] = vocabulary.mask
        after = rival_network.losses(cut, batch.mask[:1, :4], torch.Generator())["loss"]
    torch.testing.assert_close(after, before)


def test_only_the_trunk_has_weights(rival_network):
    """The tied head adds no name: averages and checkpoints hold each weight once."""
    assert set(rival_network.state_dict()) == {name for name, _ in rival_network.named_parameters()}


def test_generate_draws_from_the_nucleus_token_by_token(rival_network, vocabulary):
    """The same texts without a cache, without transformers' loop, one at a time."""
    sampler, seeds, length = RivalSampler(top_p=0.7, temperature=1.3), [11, 12, 13], rival_network.config.max_length
    found = rival_network.generate(seeds, sampler)
    for seed, row in zip(seeds, found, strict=True):
        uniforms, tokens = uniforms_of([seed], length), torch.tensor([[vocabulary.start]])
        while tokens.shape[1] < length and tokens[0, -1] != vocabulary.end:
            with torch.no_grad():
                hidden = rival_network.trunk(input_ids=tokens, use_cache=False).last_hidden_state[:, -1]
            logits = hidden @ rival_network.embeddings[: vocabulary.mask].T
            drawn = choose(logits, uniforms[:, tokens.shape[1] - 1], 0.7, 1.3)
            tokens = torch.cat([tokens, drawn[:, None]], 1)
        size = tokens.shape[1]
        assert row[:size].equal(tokens[0])
        assert (row[size:] == vocabulary.pad).all()


def test_a_text_depends_on_its_own_seed_alone(rival_network):
    sampler = RivalSampler()
    together = rival_network.generate([1, 2, 3, 4], sampler)
    alone = rival_network.generate([3], sampler)
    assert together[2, : alone.shape[1]].equal(alone[0])
    assert not together[0].equal(together[1])
