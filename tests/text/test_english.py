"""What english.py promises: plain English without anything learned."""

import pytest

from textcosm.text.backbone import BackboneConfig, open_backbone


@pytest.mark.parametrize(
    "text",
    [
        "The dog ran. He was happy!",
        "Do you know? I don't, and he's not here.",
        'She said, "I know you." We went home.',
        "It was 3:15 (or 4.5, or 1,000) at the well-known store/cafe.",
        "Bread for $5, cake for 10%: we bought all.",
    ],
)
def test_ordinary_sentences_are_written_by_rule_alone(text):
    tokenizer = open_backbone(BackboneConfig("tiny")).tokenizer
    tokens = tokenizer.tokenize([text], 128).tokens
    written = tokenizer.detokenize(tokens, tokenizer.default_forms(tokens))
    assert written == [text]


def test_names_stay_small_without_learned_forms():
    tokenizer = open_backbone(BackboneConfig("tiny")).tokenizer
    tokens = tokenizer.tokenize(["We saw Tim."], 128).tokens
    assert tokenizer.detokenize(tokens, tokenizer.default_forms(tokens)) == ["We saw tim."]
