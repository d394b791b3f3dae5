"""A judge's costs against its own probabilities, on a language model of a few thousand weights."""

import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation import judges
from textcosm.evaluation.judges import Judge, Surprise, default_cache, open_judge, perplexity, trimmed_mean
from textcosm.evaluation.mauve import mauve

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


def test_features_are_the_last_hidden_state_at_the_last_token(judge):
    ids = judge.tokenizer("a dog ran to the cat")["input_ids"]
    with torch.no_grad():
        states = judge.model(torch.tensor([[0, *ids]]), output_hidden_states=True).hidden_states[-1]
    found = judge.read(TEXTS)
    assert found.features.shape == (len(TEXTS), 16) and found.features.dtype == np.float32
    assert found.features[1] == pytest.approx(states[0, -1].numpy(), abs=1e-5)
    assert np.isnan(found.features[3]).all() and not np.isnan(found.features[[0, 1, 2, 4]]).any()


def test_nothing_to_read_is_an_empty_reading(judge):
    found = judge.read([])
    assert found.costs == [] and found.features.shape == (0, 16)


def test_mauve_of_a_reading_is_the_librarys_value_of_the_same_tokens(judge, monkeypatch):
    """The library reads [BOS] + tokens with its own code; only its model is replaced, by ours."""
    library = pytest.importorskip("mauve.compute_mauve")
    monkeypatch.setenv("DISABLE_TQDM", "1")
    rng = np.random.default_rng(0)
    sides = [
        [" ".join(rng.choice(vocabulary, rng.integers(1, 9))) for _ in range(40)]
        for vocabulary in (["the", "cat", "sat", "a"], ["the", "dog", "ran", "to", "a"])
    ]
    tokens = [[torch.tensor([[0, *judge.tokenizer(text)["input_ids"]]]) for text in side] for side in sides]
    for name, value in {"MODEL": judge.model.model, "TOKENIZER": judge.tokenizer, "MODEL_NAME": "ours"}.items():
        monkeypatch.setattr(sys.modules["mauve.compute_mauve"], name, value)
    expected = library.compute_mauve(p_tokens=tokens[0], q_tokens=tokens[1], featurize_model_name="ours").mauve
    found = mauve(*(judge.read(side).features for side in sides), draws=1)
    assert 0 < expected < 1
    assert found.value.value == pytest.approx(expected, abs=1e-6)


# ---------------------------------------------------------------- cache

MANY = [f"{a} {b} {c}" for a in TEXTS for b in TEXTS for c in TEXTS] * 2  # 250 texts: three chunks, no two alike


def _same(one, other):
    return one.costs == other.costs and np.array_equal(one.features, other.features, equal_nan=True)


def test_a_kept_reading_is_the_reading_bit_by_bit(judge, tmp_path, monkeypatch):
    plain = judge.read(MANY)
    assert _same(judge.read(MANY, cache=tmp_path / "deep" / "cache"), plain)
    assert len(list((tmp_path / "deep" / "cache").iterdir())) == 3
    monkeypatch.setattr(judge, "_forward", None)  # no pass is needed any more
    done = []
    assert _same(judge.read(MANY, cache=tmp_path / "deep" / "cache", progress=done.append), plain)
    assert done == [100, 200, 250]


def test_a_stopped_reading_goes_on_where_it_was(judge, tmp_path):
    def stop(done):
        if done > 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge.read(MANY, cache=tmp_path, progress=stop)
    assert len(list(tmp_path.iterdir())) == 1
    assert _same(judge.read(MANY, cache=tmp_path), judge.read(MANY))


def test_other_texts_or_another_judge_are_read_anew(judge, tmp_path):
    judge.read(["the cat", "sat"], cache=tmp_path)
    judge.read(["the", "cat sat"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    short = Judge("short", judge.model, judge.tokenizer, max_tokens=1)
    assert short.read(["the cat", "sat"], cache=tmp_path).costs[0].tokens == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_file_is_read_anew(judge, tmp_path):
    plain = judge.read(TEXTS, cache=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-7])
    assert _same(judge.read(TEXTS, cache=tmp_path), plain)
    assert _same(judge.read(TEXTS, cache=tmp_path), plain)


def test_a_cache_that_cannot_be_written_is_a_clear_error(judge, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot keep readings in .*give another cache folder"):
        judge.read(TEXTS, cache=tmp_path / "file" / "cache")


def test_the_fingerprint_is_of_weights_vocabulary_and_reach(judge, folder):
    assert judge.fingerprint == open_judge(str(folder)).fingerprint and len(judge.fingerprint) == 16
    assert Judge("short", judge.model, judge.tokenizer, max_tokens=1).fingerprint != judge.fingerprint
    other = open_judge(str(folder))
    with torch.no_grad():
        other.model.lm_head.weight[0, 0] += 1
    assert other.fingerprint != judge.fingerprint


def test_the_default_cache_follows_the_desktops_rule(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "textcosm" / "readings"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert default_cache() == Path("/home/someone/.cache/textcosm/readings")


# ---------------------------------------------------------------- reading


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


def _rewritten(folder, path, change):
    """A copy of the judge whose weights were changed on disk."""
    shutil.copytree(folder, path)
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
    return str(path)


def test_a_judge_with_missing_weights_is_refused(folder, tmp_path):
    partial = _rewritten(folder, tmp_path / "partial", lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(ConfigError, match="in part: 1 weight.s. missing, first 'model.norm.weight'"):
        open_judge(partial)


def test_a_judge_with_left_over_weights_is_refused(folder, tmp_path):
    more = _rewritten(folder, tmp_path / "more", lambda weights: weights.update(extra=torch.zeros(2)))
    with pytest.raises(ConfigError, match="1 weight.s. unexpected, first 'extra'"):
        open_judge(more)


def test_a_judge_with_wrongly_shaped_weights_is_refused(folder, tmp_path):
    odd = _rewritten(folder, tmp_path / "odd", lambda w: w.update({"model.norm.weight": torch.ones(5)}))
    with pytest.raises(ConfigError) as caught:
        open_judge(odd)
    assert "\n" not in str(caught.value)


def test_a_tied_head_is_not_a_missing_weight(folder, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(folder, tmp_path / "tied")
    config = LlamaConfig.from_pretrained(folder, tie_word_embeddings=True)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    assert open_judge(str(tmp_path / "tied")).read(["the cat"]).costs[0].tokens == 2


def test_a_device_that_is_not_there(folder):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(ConfigError, match="cannot run on device 'cuda'.*give cpu, cuda or mps"):
        open_judge(str(folder), device="cuda")


def test_a_model_with_few_positions_reads_no_further(judge):
    positions = judge.model.config.max_position_embeddings
    assert judge.max_tokens == 1023
    assert Judge("far", judge.model, judge.tokenizer, max_tokens=10**6).max_tokens == positions - 1


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
