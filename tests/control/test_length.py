"""Wanted lengths: what is refused, what a natural one is, and where a text is made to end."""

import pytest
import torch

from textcosm.control.decoder import Decoder
from textcosm.control.length import WITHIN, Ending, lengths_of
from textcosm.errors import ConfigError
from textcosm.testing import tiny_model

MODEL = tiny_model()
LENGTH = MODEL.config.autoencoder.max_length


def ending(*lengths: int) -> Ending:
    return Ending(Decoder(MODEL.autoencoder, MODEL.normaliser, MODEL.tokenizer), torch.tensor(lengths))


def logits_of(text: str) -> torch.Tensor:
    """Logits of a decoder that is sure of this text and of its end, and has "dog" in second place everywhere."""
    batch = MODEL.tokenizer.tokenize([text], LENGTH)
    tokens = torch.nn.functional.pad(batch.tokens, (0, LENGTH - batch.tokens.shape[1]), value=MODEL.tokenizer.pad_id)
    logits = torch.zeros(1, LENGTH, MODEL.tokenizer.vocab_size)
    logits[..., MODEL.tokenizer.tokenize(["dog"], 3).tokens[0, 1]] = 1
    return logits.scatter(-1, tokens[..., None], 5)


def words_of(text: str, length: int) -> str:
    logits = logits_of(text)
    tokens = ending(length).choose(logits, logits.argmax(-1))
    return MODEL.tokenizer.detokenize(tokens, MODEL.tokenizer.default_forms(tokens))[0]


def test_lengths_are_one_for_all_or_one_for_each():
    assert lengths_of(5, [1, 2], LENGTH, {}).tolist() == [5, 5]
    assert lengths_of([5, 7], [1, 2], LENGTH, {}).tolist() == [5, 7]


@pytest.mark.parametrize(
    ("length", "message"),
    [
        (0, "length is 0; this model writes texts of 1 to 22 tokens, start and end not counted"),
        (23, "length is 23"),
        ([5], "1 lengths for 2 texts: give one for each, or one for all"),
        ("long", "length is 'long'; give a number of tokens, one for each text, or natural"),
        ("natural", "does not record the lengths of its training texts: give a number of tokens"),
    ],
)
def test_lengths_that_cannot_be(length, message):
    with pytest.raises(ConfigError, match=message):
        lengths_of(length, [1, 2], LENGTH, {})


def test_natural_lengths_follow_the_record_and_each_texts_own_seed():
    record = {"data": {"lengths": [0, 0, 9, 0, 0, 0, 1, 0, 3]}}  # nothing but start and end is no text
    drawn = lengths_of("natural", list(range(200)), LENGTH, record)
    assert set(drawn.tolist()) == {4, 6} and 20 < (drawn == 4).sum() < 80
    assert lengths_of("natural", [7, 150], LENGTH, record).tolist() == drawn[[7, 150]].tolist()


def test_the_end_stands_after_the_whole_sentence_that_is_near():
    text = "the dog ran home. we saw it go there again"
    assert words_of(text, 5) == words_of(text, 3) == words_of(text, 7) == "The dog ran home."


def test_the_end_stands_exactly_there_where_no_sentence_ends_near():
    text = "the dog ran home. we saw it go there again"
    assert words_of(text, 9) == "The dog ran home. We saw it go"


def test_an_end_that_came_too_early_becomes_a_word():
    assert words_of("we ran", 5) == "We ran dog dog dog"


def test_a_closed_quotation_closes_a_sentence():
    assert words_of('he said "we ran." then the cat', 9) == 'He said "we ran."'


def test_the_guide_raises_the_probability_of_ending_there():
    guide = ending(6, 15, 22)
    latents = torch.randn(3, *MODEL.normaliser.shape, generator=torch.Generator().manual_seed(0))
    before = guide.log_probability(latents)
    moved = guide(latents, 0.2)
    assert (guide.log_probability(moved) > before).all()
    torch.testing.assert_close(guide(latents, 1.0), latents)
    torch.testing.assert_close(guide.select(slice(1, 2))(latents[1:2], 0.2), moved[1:2])


def test_the_log_probability_is_that_of_the_first_end(monkeypatch):
    guide = ending(4)
    hidden = torch.zeros(1, LENGTH, MODEL.autoencoder.token_head.in_features)
    monkeypatch.setattr(Decoder, "hidden", lambda self, latents: hidden)
    vocabulary = MODEL.tokenizer.vocab_size
    # All tokens are equally likely: an end within the window, and one of the three closers before it.
    end = torch.tensor(1 / vocabulary)
    not_yet = (1 - 1 / (vocabulary + 1)) ** 2  # the places 1 and 2: the rest stands for the whole vocabulary beside the end
    wanted = sum(not_yet * (1 - end) ** k * end for k in range(2 * WITHIN + 1)) * 3 / vocabulary
    found = guide.log_probability(torch.zeros(1, *MODEL.normaliser.shape))
    torch.testing.assert_close(found.exp(), wanted[None], rtol=1e-3, atol=0)
