"""What surface.py promises: forms read off a text write it again."""

import json

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from textcosm.shapes import NUM_FORMS
from textcosm.text.surface import UNKNOWN, Surface
from textcosm.text.tokenizer import SpecialTokens, Tokenizer

WORDS = {
    "[UNK]": 0,
    "[CLS]": 1,
    "[SEP]": 2,
    "the": 3,
    "cat": 4,
    "##s": 5,
    "3d": 6,
    "nasa": 7,
    "i": 8,
    ".": 9,
    "mcdonald": 10,
}


def surface(words=WORDS) -> Surface:
    special = [{"id": words[token], "content": token, "special": True} for token in ("[UNK]", "[CLS]", "[SEP]")]
    model = {"type": "WordPiece", "vocab": words, "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    return Surface.of({"model": model, "added_tokens": special})


def read(text: str, *spans: tuple[str, int, int]) -> list[int]:
    return surface().read(text, [WORDS[word] for word, _, _ in spans], [(start, end) for _, start, end in spans])


@pytest.mark.parametrize(
    ("written", "word", "case"),
    [
        ("the", "the", 0),
        ("The", "the", 1),
        ("THE", "the", 2),
        ("I", "i", 1),
        ("3D", "3d", 2),
        ("McDonald", "mcdonald", 1),
    ],
)
def test_the_case_of_a_token_is_read_off_the_text(written, word, case):
    assert read(f". {written}", (".", 0, 1), (word, 2, 2 + len(written)))[1] == 2 * case + 1


def test_a_space_is_read_where_white_space_stood_and_never_before_the_first_token():
    text = " The cats.\tcat"
    forms = read(text, ("the", 1, 4), ("cat", 5, 8), ("##s", 8, 9), (".", 9, 10), ("cat", 11, 14))
    assert [form % 2 for form in forms] == [0, 1, 0, 0, 1]


def test_writing_puts_case_and_space_back():
    words = ["the", "cat", "##s", ".", "nasa"]
    assert surface().write([WORDS[word] for word in words], [2, 1, 0, 0, 5]) == "The cats. NASA"


def test_unknown_tokens_show_as_the_replacement_character_and_special_ones_not_at_all():
    assert surface().write([WORDS["[CLS]"], WORDS["[UNK]"], WORDS["the"]], [0, 0, 1]) == f"{UNKNOWN} the"


def test_every_form_can_be_written_on_every_token():
    it = surface()
    for form in range(NUM_FORMS):
        for token in WORDS.values():
            it.write([token, token], [form, form])


TEXTS = [
    "Ana's cat, Tom, ran off at 3:15 p.m.; nobody saw him.",
    'She said, "Wait!" NASA (in the U.S.) paid $1,000.50 for it.',
    "Caf\u00e9 na\u00efve \u2014 a snowman \u2603, a smile \U0001f600 and \u65e5\u672c\u8a9e.",
]


def bpe(pre, decoder, normalizer=None, alphabet=(), **options) -> Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE(unk_token=None, **options))
    backend.pre_tokenizer, backend.decoder = pre, decoder
    if normalizer is not None:
        backend.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=list(alphabet),
        show_progress=False,
    )
    backend.train_from_iterator(["the cat ran off and nobody saw him at the market"] * 3, trainer)
    return Tokenizer(backend.to_str(), SpecialTokens(start=0, end=1, pad=1, mask=1))


@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_byte_level_vocabularies_write_any_text_back_with_forms_all_zero(text, prefix):
    pre = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer = bpe(pre, decoders.ByteLevel(), alphabet=pre_tokenizers.ByteLevel.alphabet())
    batch = tokenizer.tokenize([text], 512)
    assert not batch.forms.any()
    assert tokenizer.detokenize(batch.tokens, batch.forms) == [text]


def test_a_space_that_the_token_carries_is_not_written_twice():
    pre = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = bpe(pre, decoders.ByteLevel(), alphabet=pre_tokenizers.ByteLevel.alphabet())
    batch = tokenizer.tokenize([TEXTS[0]], 512)
    assert tokenizer.detokenize(batch.tokens, batch.forms + 1) == [TEXTS[0]]


@pytest.mark.parametrize("text", TEXTS[:2])
def test_a_metaspace_vocabulary_that_lowers_case_gets_its_case_from_the_forms(text):
    signs = set("".join(TEXTS).lower())
    tokenizer = bpe(pre_tokenizers.Metaspace(), decoders.Metaspace(), normalizers.Lowercase(), signs)
    batch = tokenizer.tokenize([text], 512)
    assert batch.forms.any()
    assert not (batch.forms % 2).any()
    assert tokenizer.detokenize(batch.tokens, batch.forms) == [text]


def test_byte_fallback_tokens_are_joined_into_characters():
    vocab = {"<s>": 0, "</s>": 1, "\u2581hi": 2, "<0xF0>": 3, "<0x9F>": 4, "<0x98>": 5, "<0x80>": 6}
    description = {
        "model": {"type": "BPE", "vocab": vocab},
        "added_tokens": [{"id": i, "content": t, "special": True} for t, i in list(vocab.items())[:2]],
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}}]},
    }
    assert Surface.of(json.loads(json.dumps(description))).write([2, 3, 4, 5, 6], [0] * 5) == "hi\U0001f600"
