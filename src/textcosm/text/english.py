"""English spacing and capitals by rule: how a reader would write lower-case tokens with nothing learned."""

from collections.abc import Sequence

CLOSING = frozenset(".,!?;:)]}%\u2019\u201d\u2026")
OPENING = frozenset("([{$#\u00a3\u20ac\u201c\u2018@")
JOINING = frozenset("-/_'\u2019")
"""Signs that hold their neighbours together: well-known, and/or, don't."""
SENTENCE_ENDS = frozenset(".!?")


def english_forms(pieces: Sequence[str], continues: Sequence[bool]) -> list[int]:
    """The form (``2 * case + space``) of each piece by rule; ``continues[i]``: piece i goes on with the word before."""
    forms, opens_sentence, inside_quotes = [], True, False
    for i, piece in enumerate(pieces):
        closes_quote = piece == '"' and inside_quotes
        space = i > 0 and not continues[i] and not closes_quote and _parted(pieces, i, inside_quotes)
        ends_word = i + 1 == len(pieces) or not continues[i + 1]
        alone = piece == "i" and not continues[i] and ends_word
        forms.append(2 * (piece[:1].isalpha() and (opens_sentence or alone)) + space)
        if piece[:1].isalnum():
            opens_sentence = False
        elif piece in SENTENCE_ENDS:
            opens_sentence = True
        inside_quotes ^= piece == '"'
    return forms


def _parted(pieces: Sequence[str], i: int, inside_quotes: bool) -> bool:
    """Whether a space parts piece i from the one before it."""
    piece, before = pieces[i], pieces[i - 1]
    if piece in CLOSING or piece in JOINING or before in OPENING or before in JOINING:
        return False
    if before == '"' and inside_quotes:
        return False
    number = i > 1 and before in {".", ",", ":"} and pieces[i - 2].isdigit() and piece.isdigit()
    return not number
