"""A hand on the wheel of an untrained tiny model: what each control promises whatever the model, and what it refuses."""

import pytest
import torch

from textcosm.control.gradient import ByGradient
from textcosm.control.infill import Template
from textcosm.control.length import Ending
from textcosm.control.rewrite import EARLIEST
from textcosm.errors import ConfigError, DataError
from textcosm.testing import tiny_model
from textcosm.text.tokenizer import Tokenizer

TEXTS = ["The dog ran home.", "Anna saw a bird, and so did we."]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def written(model, monkeypatch):
    """Tokens of every text that is written, in order: an untrained model's text would be split into other tokens again."""
    found, write = [], Tokenizer.detokenize

    def spy(self, tokens, forms):
        found.extend(row.index(model.tokenizer.end_id) - 1 for row in tokens.tolist())
        return write(self, tokens, forms)

    monkeypatch.setattr(Tokenizer, "detokenize", spy)
    return found


def near(found: list[int], wanted: list[int]) -> bool:
    return len(found) == len(wanted) and all(abs(a - b) <= 2 for a, b in zip(found, wanted, strict=True))


# --- rewrite


def test_strength_0_reconstructs_and_1_forgets(model):
    assert model.rewrite(TEXTS, 0) == model.decode(model.encode(TEXTS))
    assert model.rewrite(TEXTS, 1, seed=4) == model.sample(2, seed=4)
    assert model.rewrite(TEXTS[::-1], 1, seed=4) == model.sample(2, seed=4)


def test_the_noise_is_the_same_at_every_strength_and_in_every_batch(model):
    together = model.rewrite(TEXTS, 0.5, seed=2)
    assert model.rewrite(TEXTS, 0.5, seed=2, batch_size=1) == together
    assert model.rewrite(TEXTS[:1], 0.5, seed=2) == together[:1]


def test_a_weak_rewriting_goes_part_of_the_way_to_the_earliest_guess(model, monkeypatch):
    seen = {}
    monkeypatch.setattr(type(model), "_write", lambda self, latents, rows, options: seen.update(last=latents) or ["", ""])
    ends = {}
    for strength in (EARLIEST / 3, EARLIEST):
        model.rewrite(TEXTS, strength)
        ends[strength] = seen["last"]
    torch.testing.assert_close(ends[EARLIEST / 3], torch.lerp(model.encode(TEXTS), ends[EARLIEST], 1 / 3))


def test_texts_are_rewritten_no_further_than_they_must(model):
    weak, strong = (model.rewrite([*TEXTS, TEXTS[0]], strength, seed=2) for strength in (0.4, 0.9))
    asked = []

    def accept(texts):
        asked.append(texts)
        return [text == weak[1] for text in texts]

    assert model.rewrite([*TEXTS, TEXTS[0]], [0.4, 0.9], accept, seed=2) == [strong[0], weak[1], strong[2]]
    assert asked == [weak]  # the last strength is the last, whatever comes of it
    assert model.rewrite([*TEXTS, TEXTS[0]], [0.4, 0.9], lambda texts: [True] * 3, seed=2) == weak
    lengths = [3, 6, 9]
    steered = model.rewrite([*TEXTS, TEXTS[0]], [0.4, 0.9], accept, seed=2, length=lengths)
    assert steered == model.rewrite([*TEXTS, TEXTS[0]], 0.9, seed=2, length=lengths)


def test_strengths_that_nothing_chooses_among(model):
    with pytest.raises(ConfigError, match="strengths 0.4 0.9 are several and nothing says which will do"):
        model.rewrite(TEXTS, [0.4, 0.9])
    with pytest.raises(ConfigError, match="strength 0.4 is one, and nothing is left to choose"):
        model.rewrite(TEXTS, 0.4, lambda texts: [True, True])
    for strengths in ([], [0.9, 0.4], [0.4, 0.4]):
        with pytest.raises(ConfigError, match="each above the one before"):
            model.rewrite(TEXTS, strengths, lambda texts: [True, True])
    guide = ByGradient(lambda latents: latents.sum((1, 2)), 1.0)
    with pytest.raises(ConfigError, match="guides are of all texts at once"):
        model.rewrite(TEXTS, [0.4, 0.9], lambda texts: [True, True], guides=[guide])


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_strengths_that_cannot_be(model, strength):
    with pytest.raises(ConfigError, match=rf"strength is {strength}; give 0"):
        model.rewrite(TEXTS, strength)


# --- length


def test_texts_end_within_two_tokens_of_the_wanted_length(model, written, monkeypatch):
    monkeypatch.setattr(Ending, "_closes_sentence", lambda self, tokens: False)
    model.sample(3, length=[4, 9, 22], seed=1)
    assert written == [4, 9, 22]
    monkeypatch.setattr(Ending, "_closes_sentence", lambda self, tokens: True)
    written.clear()
    model.sample(3, length=[4, 9, 22], seed=1)
    assert near(written, [4, 9, 22])


def test_lengths_do_not_depend_on_the_batch(model):
    together = model.sample(4, length=[3, 9, 20, 12], seed=1)
    assert model.sample(4, length=[3, 9, 20, 12], seed=1, batch_size=3) == together
    assert model.sample(2, length=[3, 9], seed=1) == together[:2]
    assert list(model.trace(4, length=[3, 9, 20, 12], seed=1))[-1].texts == together


def test_natural_lengths_come_from_the_record(model, written, monkeypatch):
    monkeypatch.setitem(model.record, "data", {"lengths": [0] * 8 + [5]})
    monkeypatch.setattr(Ending, "_closes_sentence", lambda self, tokens: False)
    model.sample(4, length="natural")
    assert written == [6] * 4


# --- infill and continue


def test_given_parts_stay_letter_by_letter(model):
    found = model.infill(["The  DOG ___ home.", "___, and so did we"], 2, length=3, seed=5)
    assert len(found) == 4 and found[0].text != found[1].text
    assert all(one.text.startswith("The  DOG ") and one.text.endswith(" home.") for one in found[:2])
    assert all(one.text.endswith(", and so did we") for one in found[2:])
    assert all(0 <= one.kept <= 1 for one in found)
    assert model.infill("The  DOG ___ home.", 2, length=3, seed=5, batch_size=1) == found[:2]


def test_a_continuation_begins_with_what_was_given(model):
    (found,) = model.complete("The DOG ", length=9, seed=1)
    assert found.text.startswith("The DOG ") and not found.text.startswith("The DOG  ")
    assert len(found.text) > len("The DOG ")


def test_a_decoder_that_agrees_keeps_all(model, monkeypatch):
    batch = model.tokenizer.tokenize(["the dog ran home"], 24)
    tokens = torch.nn.functional.pad(batch.tokens, (0, 24 - batch.tokens.shape[1]))
    logits = torch.nn.functional.one_hot(tokens, model.tokenizer.vocab_size).float()
    monkeypatch.setattr(type(model.autoencoder), "token_logits", lambda self, hidden: logits)
    monkeypatch.setattr("textcosm.control.infill.persuade", lambda score, latents, length, steps: latents)
    (found,) = model.infill("the ___ home", length=2)
    assert found.kept == 1 and found.text.lower() == "the dog ran home"


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ("no blank", {}, DataError, "there is no blank"),
        ([], {}, DataError, "no texts were given"),
        ("The dog ran. " * 9 + "___", {}, ConfigError, "this model writes 22 tokens in all: shorten it"),
        ("a ___", {"length": 0}, ConfigError, "length is 0; a blank takes"),
        ("a ___", {"mbr": 3}, ConfigError, "mbr chooses among whole texts"),
        ("a ___", {"best": 0}, ConfigError, "best is 0; choose among at least 1"),
    ],
)
def test_blanks_that_cannot_be_filled(model, given, options, error, message):
    with pytest.raises(error, match=message):
        model.infill(given, **options)


def test_the_best_of_several_fillings_is_one_of_them(model):
    options = {"seed": 3, "steps": 2}
    found = model.infill(["The dog ___ home.", "___ a cat."], best=3, **options)
    seeds = [model._seeds(2, options, k) for k in range(3)]
    templates = [Template.parse(text) for text in ("The dog ___ home.", "___ a cat.")]
    drafts = [model._filled(templates, None, options, several) for several in seeds]
    errors = [model.denoising_error([one.text for one in draft]) for draft in drafts]
    least = [min(range(3), key=lambda k: errors[k][row]) for row in range(2)]
    assert found == [drafts[k][row] for row, k in enumerate(least)]
    assert model.infill(["The dog ___ home.", "___ a cat."], **options) == drafts[0]


# --- guides of one's own


def test_any_score_of_latents_guides(model):
    guides = [ByGradient(lambda latents: latents[:, 0].sum(-1), 9.0)]
    assert model.sample(2, guides=guides, seed=3) != model.sample(2, seed=3)
    assert model.sample(2, guides=guides, seed=3, batch_size=1) == model.sample(2, guides=guides, seed=3)
