"""Templates, where their tokens stand, and that what was given comes back letter by letter."""

import pytest
import torch

from textcosm.control.decoder import Decoder
from textcosm.control.infill import USUAL, Known, Template, blank_lengths, filled, lay_out
from textcosm.errors import ConfigError, DataError
from textcosm.testing import tiny_model

MODEL = tiny_model()
LENGTH = MODEL.config.autoencoder.max_length
DECODER = Decoder(MODEL.autoencoder, MODEL.normaliser, MODEL.tokenizer)


def layout(text: str, length: int | None = None, seed: int = 0, record: dict | None = None):
    return lay_out(Template.parse(text), MODEL.tokenizer, LENGTH, seed, record or {}, length)


def test_a_template_is_what_stands_around_its_blanks():
    assert Template.parse("A ____ ran ___.").parts == ("A ", " ran ", ".")
    assert Template.beginning("We ran").parts == ("We ran", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the text to fill is empty"),
        ("no blank __ here", "there is no blank in 'no blank __ here': mark it with three underscores or more"),
        (" ___ ____ ", "nothing but blanks"),
    ],
)
def test_templates_that_cannot_be(text, message):
    with pytest.raises(DataError, match=message):
        Template.parse(text)
    with pytest.raises(DataError, match="the text to continue is empty"):
        Template.beginning("  ")


def test_tokens_stand_at_their_places():
    found = layout("The dog ___ home. ___ too", 2)
    mask = MODEL.tokenizer.mask_id
    assert found.blanks == (range(3, 5), range(7, 9))
    the, dog, home, stop, too = MODEL.tokenizer.tokenize(["the dog home. too"], 9).tokens[0, 1:-1].tolist()
    start, end = MODEL.tokenizer.start_id, MODEL.tokenizer.end_id
    assert found.tokens == (start, the, dog, mask, mask, home, stop, mask, mask, too, end)


def test_an_open_template_runs_to_the_last_place():
    found = lay_out(Template.beginning("The dog"), MODEL.tokenizer, LENGTH, 0, {}, None)
    assert found.blanks == (range(3, LENGTH),) and len(found.tokens) == LENGTH


@pytest.mark.parametrize(
    ("length", "message"),
    [(0, "length is 0; a blank takes a number of tokens, 1 or more"), (20, r"3 tokens and 1 blank\(s\) of 20 or more; .* 22")],
)
def test_lengths_that_cannot_be(length, message):
    with pytest.raises(ConfigError, match=message):
        layout("The dog ___.", length)


def test_blanks_are_drawn_by_seed_from_what_the_record_leaves_them():
    record = {"data": {"lengths": [0] * 9 + [1, 0, 0, 0, 3]}}  # texts of 7 and of 11 tokens
    drawn = [layout("The dog ___ home ___", seed=seed, record=record) for seed in range(60)]
    assert {len(found.tokens) - 2 for found in drawn} == {7, 11}
    assert all(abs(len(a) - len(b)) <= 1 for a, b in (found.blanks for found in drawn))
    assert drawn[5] == layout("The dog ___ home ___", seed=5, record=record)
    usual = {len(layout("The dog ___", seed=seed).blanks[0]) for seed in range(99)}
    assert usual == set(USUAL)
    assert len(layout("The dog " * 10 + "___", seed=3).blanks[0]) == 2  # no more than there is room for


def test_known_tokens_are_put_in_and_counted():
    known = Known.of([layout("The dog ___ home", 1), layout("We ___.", 3)], DECODER)
    assert known.count == 4  # three words and the end
    own = known.tokens.clone()
    own[0, 2] = own[1, 3] = MODEL.tokenizer.end_id  # a known word, and a place in a blank
    torch.testing.assert_close(known.kept(own), torch.tensor([2 / 3, 1.0]))
    logits = torch.zeros(2, LENGTH, MODEL.tokenizer.vocab_size)
    word = MODEL.tokenizer.tokenize(["cat"], 3).tokens[0, 1]
    logits[..., word] = 1
    chosen = known.choose(logits, own)
    assert chosen[0, :6].tolist() == [*known.tokens[0, :3].tolist(), word, *known.tokens[0, 4:6].tolist()]
    assert chosen[1, 2:5].tolist() == [word] * 3


def test_given_parts_come_back_letter_by_letter():
    templates = [Template.parse("The  DOG (___), at home"), Template.beginning("We RAN")]
    layouts = [lay_out(t, MODEL.tokenizer, LENGTH, 0, {}, length) for t, length in zip(templates, (2, None), strict=True)]
    tokens = Known.of(layouts, DECODER).tokens
    tokens[0, 4:6] = MODEL.tokenizer.tokenize(["big cat"], 4).tokens[0, 1:3]
    tokens[1, 3:7] = MODEL.tokenizer.tokenize(["to school."], 5).tokens[0, 1:]
    found = filled(templates, layouts, tokens, MODEL.tokenizer.default_forms(tokens), torch.tensor([1.0, 0.5]), MODEL.tokenizer)
    assert [(one.text, one.kept) for one in found] == [("The  DOG (big cat), at home", 1.0), ("We RAN to school.", 0.5)]


def test_the_guide_makes_known_tokens_likelier_and_sees_each_text_alone():
    known = Known.of([layout("The dog ___ home", 3), layout("We ___ in the park.", 5)], DECODER)
    latents = torch.randn(2, *MODEL.normaliser.shape, generator=torch.Generator().manual_seed(0))
    moved = known(latents, 0.2)
    assert (known.log_probability(moved) > known.log_probability(latents)).all()
    assert (known.log_probability(known.settle(moved)) > known.log_probability(moved)).all()
    torch.testing.assert_close(known.select(slice(1, 2))(latents[1:], 0.2), moved[1:])


def test_lengths_of_blanks_are_one_for_all_or_one_for_each_text():
    assert (blank_lengths(None, 2), blank_lengths(3, 2), blank_lengths([1, 2], 2)) == ([None] * 2, [3, 3], [1, 2])
    with pytest.raises(ConfigError, match="1 lengths for the blanks of 2 texts"):
        blank_lengths([1], 2)
    with pytest.raises(ConfigError, match="length is 'natural'; a blank takes a number of tokens, or none"):
        blank_lengths("natural", 2)
