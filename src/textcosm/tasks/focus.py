"""What a source of two parts is about: the sentences of its context that stand around the answer."""

import re

from textcosm.tasks.named import SEPARATOR

SENTENCE = re.compile(r"\S.*?(?:[.!?][\"')\]]*(?=\s)|$)", re.DOTALL)
WORD = re.compile(r"\S+")


def focused(source: str, words: int | None) -> str:
    """``"ANSWER | CONTEXT"`` with at most ``words`` words of the context, whole sentences where they fit.

    Kept are the sentences that hold the answer at its first place, then those before and after as long as there is room;
    of a sentence that is longer than that, the words around the answer. A context that does not hold the answer keeps its
    beginning. A source of one part, and any with ``words`` None, stays as it is.
    """
    answer, separator, context = source.partition(SEPARATOR)
    if words is None or not separator or len(context.split()) <= words:
        return source
    start = max(0, context.find(answer.strip()))
    end = start + max(1, len(answer.strip()))
    spans = [match.span() for match in SENTENCE.finditer(context)]
    holding = [i for i, (first, last) in enumerate(spans) if first < end and start < last] or [0]
    low, high = holding[0], holding[-1] + 1

    def text(low: int, high: int) -> str:
        return context[spans[low][0] : spans[high - 1][1]]

    def fits(low: int, high: int) -> bool:
        return low >= 0 and high <= len(spans) and len(text(low, high).split()) <= words

    if not fits(low, high):
        offset = spans[low][0]
        return answer + separator + _around(text(low, high), start - offset, end - offset, words)
    while wider := next((span for span in ((low - 1, high), (low, high + 1)) if fits(*span)), None):
        low, high = wider
    return answer + separator + text(low, high)


def _around(text: str, start: int, end: int, words: int) -> str:
    """``words`` words of ``text``, those of ``text[start:end]`` in the middle."""
    spans = [match.span() for match in WORD.finditer(text)]
    inside = [i for i, (first, last) in enumerate(spans) if first < end and start < last] or [0]
    low = inside[0] - max(0, words - len(inside)) // 2
    low = max(0, min(low, len(spans) - words))
    return text[spans[low][0] : spans[min(low + words, len(spans)) - 1][1]]
