"""A classifier's probabilities against transformers' own, on a few thousand random weights."""

import shutil

import numpy as np
import pytest
import torch

from textcosm.errors import ConfigError
from textcosm.evaluation.classifiers import BATCH, open_classifier

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "you", "are", "kind", "a", "fool", "."]
TEXTS = ["you are kind .", "a fool", "", "you are a fool , a fool . " * 9]
POSITIONS = 24


@pytest.fixture(scope="module")
def save(tmp_path_factory):
    """Writes a random classifier with the labels given, as a model folder."""

    def save(labels, **settings):
        from tokenizers import Tokenizer, models, pre_tokenizers, processors

        folder = tmp_path_factory.mktemp("classifier")
        tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
        ).save_pretrained(folder)
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=len(WORDS), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=POSITIONS, initializer_range=1.0, id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)}, **settings,
        )  # fmt: skip
        transformers.BertForSequenceClassification(config).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="module")
def folder(save):
    return save(["neutral", "Toxic"])


def logits_of(folder, text):
    """(labels,), without our batches."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        batch = tokenizer(text, return_tensors="pt", truncation=True, max_length=POSITIONS - 2)
        return model(**batch).logits[0].double()


def test_probabilities_are_the_softmax_of_the_label_that_is_meant(folder):
    found = open_classifier(str(folder), ("toxic", "hate")).probabilities(TEXTS)
    expected = [logits_of(folder, text).softmax(-1)[1].item() for text in TEXTS]
    assert found == pytest.approx(expected, abs=1e-6)
    assert np.ptp(found) > 1e-3


def test_the_label_can_be_named(folder):
    toxic, neutral = (open_classifier(str(folder), ("toxic",), label) for label in (None, "neutral"))
    assert toxic.probabilities(TEXTS) + neutral.probabilities(TEXTS) == pytest.approx(np.ones(len(TEXTS)))


def test_labels_that_do_not_exclude_one_another_have_a_sigmoid_each(save):
    several = save(["toxic", "obscene", "threat"], problem_type="multi_label_classification")
    found = open_classifier(str(several), ("toxic",)).probabilities(TEXTS[:2])
    assert found == pytest.approx([logits_of(several, text).sigmoid()[0].item() for text in TEXTS[:2]], abs=1e-6)


def test_batches_change_nothing_and_no_texts_are_no_probabilities(folder):
    classifier = open_classifier(str(folder), ("toxic",))
    many = (TEXTS * BATCH)[: BATCH + 3]
    alone = [classifier.probabilities([text])[0] for text in TEXTS]
    assert classifier.probabilities(many) == pytest.approx((alone * BATCH)[: BATCH + 3], abs=1e-6)
    assert classifier.probabilities([]).shape == (0,)
    classifier.tokenizer.pad_token = None
    assert classifier.probabilities(TEXTS) == pytest.approx(alone, abs=1e-6)


def test_labels_without_a_telling_name_are_not_guessed_at(save):
    unnamed = str(save(["LABEL_0", "LABEL_1"]))
    with pytest.raises(ConfigError, match="has the labels LABEL_0, LABEL_1 and 0 of them is called toxic: name"):
        open_classifier(unnamed, ("toxic",))
    assert open_classifier(unnamed, ("toxic",), "LABEL_1").label == 1


def test_a_model_without_its_classifying_head_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    transformers.AutoModelForSequenceClassification.from_pretrained(folder).bert.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks 2 weights, first 'classifier\.bias'"):
        open_classifier(str(tmp_path), ("toxic",))


def test_a_classifier_that_is_not_there():
    with pytest.raises(ConfigError, match="cannot open classifier 'no-such-classifier'") as caught:
        open_classifier("no-such-classifier", ("toxic",))
    assert "\n" not in str(caught.value)
