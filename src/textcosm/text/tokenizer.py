"""Texts to padded token ids with their written forms, and back."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch

from textcosm.errors import BackboneError, ConfigError, DataError
from textcosm.shapes import Forms, Mask, Tokens
from textcosm.text.surface import Surface

if TYPE_CHECKING:
    from tokenizers import Encoding

SHORTEST = 3
"""The least ``max_length``: a start token, one token of text, an end token."""


@dataclass(frozen=True)
class TokenBatch:
    """Texts as token ids, padded to the longest of the batch.

    ``forms`` are the written forms (see ``text/surface.py``), 0 at the start, the end and the padding; ``cut`` counts
    the texts that were longer than the limit.
    """

    tokens: Tokens
    mask: Mask
    forms: Forms
    cut: int


@dataclass(frozen=True)
class SpecialTokens:
    """The ids that frame a text: its start, its end, the padding after it, and the token of a hidden place."""

    start: int
    end: int
    pad: int
    mask: int


class Tokenizer:
    """A vocabulary with its special tokens, wrapped around the ``tokenizers`` library.

    ``vocabulary`` is the content of a ``tokenizer.json``. Truncation, padding and templates inside it are ignored: a
    text is always ``[start] tokens [end]``. Special tokens spelt out in a text are read as plain text.
    """

    def __init__(self, vocabulary: str, special: SpecialTokens):
        import tokenizers

        description = json.loads(vocabulary)
        description.update(truncation=None, padding=None)
        self._vocabulary = json.dumps(description, ensure_ascii=False, separators=(",", ":"))
        self._backend = tokenizers.Tokenizer.from_str(self._vocabulary)
        self._backend.encode_special_tokens = True
        self._surface = Surface.of(description)
        self.special = special
        self.vocab_size = len(self._surface.pieces)

    @property
    def start_id(self) -> int:
        """The token before every text ([CLS], or a beginning-of-text token)."""
        return self.special.start

    @property
    def end_id(self) -> int:
        """The token after every text ([SEP], or an end-of-text token)."""
        return self.special.end

    @property
    def pad_id(self) -> int:
        """The token that fills short rows."""
        return self.special.pad

    @property
    def mask_id(self) -> int:
        """The token of a hidden place, or the nearest to it that the vocabulary has."""
        return self.special.mask

    def tokenize(self, texts: Sequence[str], max_length: int) -> TokenBatch:
        """Token ids ``[start] ... [end]``, ``max_length`` at most; longer texts are cut, counted, and keep their [end].

        Raises:
            ConfigError: ``max_length`` has no place for a token between start and end.
            DataError: a text is not a string, or holds half a character (a lone surrogate).
        """
        if max_length < SHORTEST:
            raise ConfigError(f"max_length is {max_length}; give {SHORTEST} or more (start, text, end)")
        try:
            encodings = self._backend.encode_batch(list(texts), add_special_tokens=False)
        except TypeError as error:
            raise DataError("a text is no string, or holds half a character (a lone surrogate); mend it") from error
        room = max_length - 2
        rows = [self._row(text, encoding, room) for text, encoding in zip(texts, encodings, strict=True)]
        mask = _mask_of([len(tokens) for tokens, _ in rows])
        return TokenBatch(
            tokens=_padded([tokens for tokens, _ in rows], mask, self.pad_id),
            mask=mask,
            forms=_padded([forms for _, forms in rows], mask, 0),
            cut=sum(len(encoding) > room for encoding in encodings),
        )

    def detokenize(self, tokens: Tokens, forms: Forms) -> list[str]:
        """The text of each row in its written forms: without the start token, up to the first end token."""
        return [self._surface.write(*self._body(*row)) for row in zip(tokens.tolist(), forms.tolist(), strict=True)]

    def default_forms(self, tokens: Tokens) -> Forms:
        """The forms that English rules alone give to the text of each row, 0 around it; same shape as ``tokens``."""
        forms = torch.zeros_like(tokens)
        for row, written in zip(tokens.tolist(), forms, strict=True):
            start = int(row[:1] == [self.start_id])
            body, _ = self._body(row, row)
            written[start : start + len(body)] = torch.tensor(self._surface.default_forms(body), dtype=forms.dtype)
        return forms

    def to_json(self) -> str:
        """Everything that :meth:`from_json` needs, as one JSON object."""
        content = {"special": asdict(self.special), "tokenizer": json.loads(self._vocabulary)}
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, content: str) -> "Tokenizer":
        """The tokenizer that :meth:`to_json` wrote.

        Raises:
            BackboneError: ``content`` is something else.
        """
        try:
            stored = json.loads(content)
            special = SpecialTokens(**stored["special"])
            return cls(json.dumps(stored["tokenizer"]), special)
        except Exception as error:  # the tokenizers library raises bare Exception for a vocabulary that it cannot read
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise BackboneError(
                f"not what Tokenizer.to_json writes ({reason}); restore the tokenizer's file"
            ) from error

    def _row(self, text: str, encoding: "Encoding", room: int) -> tuple[list[int], list[int]]:
        ids = encoding.ids[:room]
        forms = self._surface.read(text, ids, encoding.offsets[:room])
        return [self.start_id, *ids, self.end_id], [0, *forms, 0]

    def _body(self, tokens: list[int], forms: list[int]) -> tuple[list[int], list[int]]:
        """What stands between the start token, if there is one, and the first end token, if there is one."""
        start = int(tokens[:1] == [self.start_id])
        end = tokens.index(self.end_id, start) if self.end_id in tokens[start:] else len(tokens)
        return tokens[start:end], forms[start:end]


def _mask_of(lengths: list[int]) -> Mask:
    return torch.arange(max(lengths, default=0)) < torch.tensor(lengths, dtype=torch.long)[:, None]


def _padded(rows: list[list[int]], mask: Mask, fill: int) -> Tokens:
    out = torch.full(mask.shape, fill, dtype=torch.long)
    out[mask] = torch.tensor([value for row in rows for value in row], dtype=torch.long)
    return out
