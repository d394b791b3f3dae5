"""The rival that answers sources: its loss is transformers' own, its answers are what its chances say."""

import pytest
import torch

from textcosm.baselines import open_rival
from textcosm.baselines.nucleus import choose, uniforms_of
from textcosm.baselines.rival import new_network
from textcosm.baselines.settings import RivalConfig, RivalSampler
from textcosm.baselines.tokens import Sources
from textcosm.errors import ConfigError, DataError

SOURCES = ["The dog ran home.", "Anna took the bus to school, but it began to rain and she lost her book.", "Tom asked"]
METHODS = (RivalSampler(beams=1), RivalSampler(beams=3), RivalSampler(top_p=0.7, temperature=1.3))


@pytest.fixture
def answering(network):
    return network("encoder-decoder")


@pytest.fixture
def sources(backbone, vocabulary):
    batch = backbone.tokenize(SOURCES, 24)
    return Sources(vocabulary.shrink(batch.tokens), batch.mask)


@pytest.fixture
def targets(backbone, vocabulary):
    batch = backbone.tokenize(["The dog was happy.", "The cat ran home.", "Anna asked Tom to go to the beach."], 24)
    return vocabulary.shrink(batch.tokens), batch.mask


def test_the_loss_is_that_of_transformers(answering, vocabulary, sources, targets):
    tokens, mask = targets
    whole = answering._language_model
    whole.final_logits_bias = torch.zeros(1, len(vocabulary))
    with torch.no_grad():
        logits = whole(
            input_ids=sources.tokens, attention_mask=sources.mask.long(), decoder_input_ids=tokens[:, :-1]
        ).logits
        ours = answering.losses(tokens, mask, torch.Generator(), sources)["loss"]
    labels = tokens[:, 1:].masked_fill(~mask[:, 1:], -100)
    theirs = torch.nn.functional.cross_entropy(logits[..., : vocabulary.mask].flatten(0, 1), labels.flatten())
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_each_text_is_scored_beside_its_own_source_whatever_the_padding(answering, sources, targets):
    tokens, mask = targets
    with torch.no_grad():
        together = float(answering.losses(tokens, mask, torch.Generator(), sources)["loss"])
        swapped = Sources(sources.tokens.flip(0), sources.mask.flip(0))
        other = float(answering.losses(tokens, mask, torch.Generator(), swapped)["loss"])
        total, count = 0.0, 0
        for i in range(len(tokens)):
            length, read = int(mask[i].sum()), int(sources.mask[i].sum())
            alone = Sources(sources.tokens[i : i + 1, :read], sources.mask[i : i + 1, :read])
            part = answering.losses(tokens[i : i + 1, :length], mask[i : i + 1, :length], torch.Generator(), alone)
            total, count = total + float(part["loss"]) * (length - 1), count + length - 1
    assert together == pytest.approx(total / count, abs=1e-5)
    assert abs(together - other) > 1e-3


def test_every_weight_has_one_name(answering, vocabulary):
    assert set(answering.state_dict()) == {name for name, _ in answering.named_parameters()}
    assert answering.embeddings.shape == (len(vocabulary), answering.config.width)
    answering.load_state_dict({name: torch.ones_like(value) for name, value in answering.state_dict().items()})
    for part in (answering.trunk.encoder, answering.trunk.decoder):
        assert bool((part.embed_tokens.weight == 1).all())


def test_drawn_answers_are_the_nucleuss_token_by_token(answering, vocabulary, sources):
    """The same texts without a cache, without transformers' loop, one at a time."""
    seeds, length = [11, 12, 13], answering.config.max_length
    found = answering.generate(seeds, RivalSampler(top_p=0.7, temperature=1.3), sources)
    banned = torch.tensor([vocabulary.start, vocabulary.pad])
    for i, (seed, row) in enumerate(zip(seeds, found, strict=True)):
        uniforms, tokens = uniforms_of([seed], length), torch.tensor([[vocabulary.start]])
        while tokens.shape[1] < length and tokens[0, -1] != vocabulary.end:
            logits = _next(answering, sources, i, tokens)
            logits[:, banned] = -torch.inf
            drawn = choose(logits, uniforms[:, tokens.shape[1] - 1], 0.7, 1.3)
            tokens = torch.cat([tokens, drawn[:, None]], 1)
        size = tokens.shape[1]
        assert row[:size].equal(tokens[0])
        assert (row[size:] == vocabulary.pad).all()


def test_one_beam_takes_the_likeliest_token_and_more_find_likelier_texts(answering, vocabulary, sources):
    greedy, searched = (answering.generate([1, 2, 3], RivalSampler(beams=n), sources) for n in (1, 4))
    logits = _next(answering, sources, 0, greedy[:1, :3])
    logits[:, [vocabulary.start, vocabulary.pad]] = -torch.inf
    assert greedy[0, 3] == logits.argmax()
    assert answering.generate([7, 8, 9], RivalSampler(beams=1), sources).equal(greedy)  # no seed matters
    for i in (0, 1):  # a search may prune what would have won: it does, for the third
        assert _score(answering, sources, i, searched[i]) > _score(answering, sources, i, greedy[i])


@torch.no_grad()
def _next(network, sources, i, tokens):
    source = Sources(sources.tokens[i : i + 1], sources.mask[i : i + 1])
    hidden = network.trunk(
        input_ids=source.tokens, attention_mask=source.mask.long(), decoder_input_ids=tokens, use_cache=False
    ).last_hidden_state[:, -1]
    return hidden @ network.embeddings[: network.vocabulary.mask].T


def _score(network, sources, i, row):
    """Mean log-probability of a text's tokens: what the search maximises."""
    size = int((row != network.vocabulary.pad).sum())
    total = sum(
        float(torch.log_softmax(_next(network, sources, i, row[None, :k]), -1)[0, row[k]]) for k in range(1, size)
    )
    return total / (size - 1)


@pytest.mark.parametrize("sampler", METHODS)
def test_an_answer_is_the_same_in_any_batch_and_from_a_folder(rival, sampler, tmp_path):
    made = rival("encoder-decoder")
    texts = made.sample(source=SOURCES, seed=3, sampler=sampler)
    assert len(texts) == 3
    assert made.sample(3, source=SOURCES, seed=3, batch_size=2, sampler=sampler) == texts
    assert made.sample(source=SOURCES[:1], seed=3, sampler=sampler) == texts[:1]
    made.sampler = sampler
    made.save(tmp_path / "rival")
    again = open_rival(tmp_path / "rival", "cpu")
    assert (again.sampler, again.network.config) == (sampler, made.network.config)
    assert again.sample(source=SOURCES, seed=3) == texts


def test_sources_that_cannot_be_answered_are_named(rival):
    made = rival("encoder-decoder")
    with pytest.raises(DataError, match="answers sources and there are none: give one for each text"):
        made.sample(2)
    with pytest.raises(ConfigError, match="n is 2 and there are 3 sources"):
        made.sample(2, source=SOURCES)
    with pytest.raises(DataError, match="source 2 of 2 is empty"):
        made.sample(source=["a dog", " "])
    with pytest.raises(DataError, match="a single string was given; give a list"):
        made.sample(source="a dog")
    with pytest.raises(ConfigError, match="the masked rival reads no source"):
        rival("masked").sample(source=SOURCES)
    with pytest.raises(ConfigError, match="beams is 4, but the autoregressive rival draws every token"):
        rival("autoregressive").sample(2, sampler=RivalSampler(beams=4))
    with pytest.raises(ConfigError, match="beams is -1"):
        RivalSampler(beams=-1)
    with pytest.raises(ConfigError, match="dropout is 1"):
        RivalConfig(dropout=1.0)
    with pytest.raises(ConfigError, match="source_length is 2"):
        RivalConfig(source_length=2)
    with pytest.raises(ConfigError, match="encoder_depth is 0"):
        RivalConfig(encoder_depth=0)


def test_a_long_source_is_cut(rival, backbone):
    made = rival("encoder-decoder")
    long = " ".join(["the dog ran home"] * 200)
    kept = backbone.tokenize([long], made.network.config.source_length)
    whole = backbone.detokenize(kept.tokens, kept.forms)[0]
    assert made.sample(source=[long]) == made.sample(source=[whole])


def test_dropout_is_of_training_only(vocabulary, sources, targets):
    sizes = RivalConfig(width=16, depth=1, heads=2, ff_width=24, max_length=24, encoder_depth=1, dropout=0.5)
    made = new_network("encoder-decoder", sizes, vocabulary)

    @torch.no_grad()
    def loss(training):
        return float(made.train(training).losses(*targets, torch.Generator(), sources)["loss"])

    assert loss(True) != loss(True) and loss(False) == loss(False)
