"""A judge's costs against its own probabilities, on a language model of a few thousand weights."""

import math

import numpy as np
import pytest
import torch

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation import judges
from textcosm.evaluation.judges import Judge, Surprise, open_judge, perplexity, trimmed_mean

pytest.importorskip("transformers")

TEXTS = ["the cat sat", "a dog ran to the cat", "the", "", "the dog sat to a dog ran to the cat sat the"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Llama over eight words, as a model folder on disk."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<s>", "<unk>", "the", "cat", "sat", "a", "dog", "ran", "to"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    path = tmp_path_factory.mktemp("judge")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>").save_pretrained(path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=0, eos_token_id=None, initializer_range=0.5,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def judge(folder):
    return open_judge(str(folder))


def test_cost_is_minus_the_log_of_the_judges_own_probability(judge):
    ids = judge.tokenizer("the cat sat")["input_ids"]
    with torch.no_grad():
        chances = judge.model(torch.tensor([[0, *ids]])).logits[0].log_softmax(-1)
    expected = -sum(chances[position, token].item() for position, token in enumerate(ids))
    (cost,) = judge.read(["the cat sat"]).costs
    assert cost.tokens == 3
    assert cost.nats == pytest.approx(expected, rel=1e-5)
    assert cost.perplexity == pytest.approx(math.exp(expected / 3), rel=1e-5)


def test_a_text_costs_the_same_in_any_batch_and_keeps_its_place(judge):
    done = []
    together = judge.read(TEXTS, batch_tokens=16, progress=done.append).costs
    alone = [judge.read([text]).costs[0] for text in TEXTS]
    assert together[3] is None and alone[3] is None
    for one, other in zip(together, alone, strict=True):
        if one is not None:
            assert one.nats == pytest.approx(other.nats, rel=1e-4)
    assert done[-1] == len(TEXTS) and done == sorted(done)


def test_batches_stay_within_their_tokens():
    lengths = [5, 1, 0, 9, 3, 3, 20]
    batches = list(judges._batches(lengths, 10))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 10 for batch in batches)


def test_long_texts_are_cut_to_what_the_judge_reads(judge):
    short = Judge("short", judge.model, judge.tokenizer, max_tokens=2)
    assert short.read(["the cat sat"]).costs[0].tokens == 2


def test_perplexity_of_a_set():
    costs = [Surprise(math.log(p) * 2, 2) for p in (10.0, 20.0, 30.0)] + [None]
    found = perplexity("someone", costs)
    assert found.trimmed.value == pytest.approx(20)
    assert found.corpus.value == pytest.approx((10 * 20 * 30) ** (1 / 3))
    assert (found.texts, found.empty, found.judge) == (3, 1, "someone")
    assert found.trimmed.low <= found.trimmed.value <= found.trimmed.high


def test_trimming_drops_five_percent_at_both_ends():
    values = np.array([1e9, *[2.0] * 38, -1e9])
    assert trimmed_mean(values) == 2.0
    assert trimmed_mean(np.array([1.0, 3.0])) == 2.0


def test_only_empty_texts_is_a_clear_error():
    with pytest.raises(DataError, match="no token in 2 texts"):
        perplexity("someone", [None, None])


@pytest.mark.parametrize(
    ("name", "message"),
    [("nowhere/model.gguf", "is not there"), ("no-such-model-anywhere", "cannot open judge 'no-such-model-anywhere'")],
)
def test_a_judge_that_is_not_there(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        open_judge(name)
    assert "\n" not in str(caught.value)


def test_the_default_judge_names_its_package(monkeypatch):
    monkeypatch.setattr(judges, "PACKAGED_JUDGES", {"smollm2": ("no_such_package", "pip install it")})
    with pytest.raises(ConfigError, match="no_such_package, which is not installed: pip install it"):
        open_judge()
