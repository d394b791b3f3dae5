"""The written form of each token, its case and the space before it: what a lower-case vocabulary forgets.

A form is ``2 * case + space``. An encoder's tokenizer may drop case and spaces, so each token carries them beside its
id; the autoencoder learns to predict them, and writing the tokens back in their forms gives natural English.
"""

import json
from collections.abc import Callable, Sequence

from textcosm.text.english import english_forms

AS_IS, CAPITALISED, UPPER = range(3)
"""The cases: as the vocabulary spells the token, with its first letter large, all large."""
UNKNOWN = "\N{REPLACEMENT CHARACTER}"
"""What a reader sees for a token that stands for text outside the vocabulary."""
METASPACE = "\N{LOWER ONE EIGHTH BLOCK}"
"""SentencePiece's sign for a space inside a token."""


class Surface:
    """Reads the forms of tokens off a text, and writes tokens in their forms.

    ``pieces[token]`` is the token's own spelling; ``continues`` holds the tokens that go on with the word before them.
    ``spaced`` says that pieces carry their own leading space (byte-level and metaspace vocabularies): the form's space
    is then always 0 and never applied. A byte that is only part of a character is a lone surrogate in its piece
    (Python's ``surrogateescape``), joined again when the text is written.
    """

    def __init__(self, pieces: list[str], continues: frozenset[int] = frozenset(), spaced: bool = False):
        self.pieces, self.continues, self.spaced = pieces, continues, spaced
        self._bare = [piece.strip() for piece in pieces] if spaced else pieces

    @classmethod
    def of(cls, description: dict) -> "Surface":
        """The surface of a tokenizer, from the parsed content of its ``tokenizer.json``."""
        model = description["model"]
        vocabulary = _vocabulary(model["vocab"])
        added = {entry["id"]: "" if entry["special"] else entry["content"] for entry in description["added_tokens"]}
        spell, spaced = _speller(description)
        pieces = [""] * (1 + max([*vocabulary.values(), *added]))
        for token, index in vocabulary.items():
            pieces[index] = spell(token)
        for index, piece in added.items():
            pieces[index] = piece
        if model.get("unk_token") in vocabulary:
            pieces[vocabulary[model["unk_token"]]] = UNKNOWN
        prefix = model.get("continuing_subword_prefix")
        continues = frozenset(i for token, i in vocabulary.items() if prefix and token.startswith(prefix))
        return cls(pieces, continues, spaced)

    def read(self, text: str, tokens: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[int]:
        """The form of each token; ``spans`` are the places (start, end) in ``text`` that the tokens came from."""
        bare, spaced, forms = self._bare, self.spaced, []
        for token, (start, end) in zip(tokens, spans, strict=True):
            written = text[start:end].strip() if spaced else text[start:end]
            case = AS_IS if written == bare[token] else _nearest_case(written, self.pieces[token])
            space = not spaced and start > 0 and text[start - 1].isspace()
            forms.append(2 * case + space)
        if forms:
            forms[0] -= forms[0] % 2  # nothing stands before the first token, whatever the text's margin
        return forms

    def write(self, tokens: Sequence[int], forms: Sequence[int]) -> str:
        """The text of tokens in their forms; white space at its ends is dropped."""
        parts = []
        for token, form in zip(tokens, forms, strict=True):
            case, space = divmod(form, 2)
            if space and not self.spaced:
                parts.append(" ")
            parts.append(_recase(self.pieces[token], case))
        text = "".join(parts).strip()
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if self.spaced else text

    def default_forms(self, tokens: Sequence[int]) -> list[int]:
        """The forms that English rules give with nothing learned: the baseline that learned forms must beat."""
        if self.spaced:
            return [0] * len(tokens)
        return english_forms([self.pieces[token] for token in tokens], [token in self.continues for token in tokens])


def _nearest_case(written: str, piece: str) -> int:
    """The case of a span that is not spelt as its token; mixed case (iPad, PhD) counts as its first letter's.

    A case that would not change the piece (a number, an unknown, part of a character) counts as none.
    """
    case = UPPER if len(written) > 1 and written.isupper() else CAPITALISED if written[:1].isupper() else AS_IS
    return case if _recase(piece, case) != piece else AS_IS


def _recase(piece: str, case: int) -> str:
    if case == CAPITALISED:
        start = len(piece) - len(piece.lstrip())
        return piece[:start] + piece[start : start + 1].upper() + piece[start + 1 :]
    return piece.upper() if case == UPPER else piece


def _vocabulary(vocab: dict[str, int] | list) -> dict[str, int]:
    """Token -> id; most models keep a table, Unigram keeps a list of (token, score)."""
    return vocab if isinstance(vocab, dict) else {entry[0]: index for index, entry in enumerate(vocab)}


def _speller(description: dict) -> tuple[Callable[[str], str], bool]:
    """The function from a token to its piece, and whether pieces carry their own space."""
    parts = [description.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]
    manner = json.dumps(parts, ensure_ascii=False)
    if '"ByteLevel"' in manner:
        alphabet = _byte_alphabet()
        return lambda token: _escaped(bytes(alphabet[c] for c in token if c in alphabet)), True
    if METASPACE in manner:
        return _spell_metaspace, True
    prefix = description["model"].get("continuing_subword_prefix") or ""
    return lambda token: token.removeprefix(prefix), False


def _spell_metaspace(token: str) -> str:
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):  # SentencePiece's byte fallback: <0x0A>
        return _escaped(bytes([int(token[3:5], 16)]))
    return token.replace(METASPACE, " ")


def _escaped(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes: printable Latin-1 is itself, the rest follow from U+0100."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted(set(range(256)) - set(shown))
    return {chr(byte): byte for byte in shown} | {chr(0x100 + i): byte for i, byte in enumerate(hidden)}
