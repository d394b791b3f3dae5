"""Metrics of texts alone: diversity, memorisation, BLEU, written form; nothing here needs a model."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.results import Interval, Result, bootstrap_ratio, jackknife

WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
SENTENCE = re.compile(r"""[.!?]+["'”’)]*(?=\s|$)""")
Gram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Words and punctuation marks, each an entry, case folded: ``"It's on."`` -> ``["it's", "on", "."]``."""
    return WORD.findall(text.casefold())


def ngrams(text: str, n: int) -> list[Gram]:
    """The n-grams of a text's words, in order, repeated ones repeated."""
    entries = words(text)
    return [tuple(entries[i : i + n]) for i in range(len(entries) - n + 1)]


def sentence_count(text: str) -> int:
    """How many sentence ends a text has (full stop, exclamation or question mark before a space or the end)."""
    return len(SENTENCE.findall(text))


# ---------------------------------------------------------------- diversity (arXiv 2506.21170)


def diversity(texts: Sequence[str]) -> float:
    """Div: product over n = 2, 3, 4 of unique / total n-grams pooled over all texts, from 0 to 1.

    It falls with the number of texts: compare pools of the same size only.
    """
    return _diversity([_pooled(text) for text in texts])


def diversity_interval(texts: Sequence[str]) -> Interval:
    """:func:`diversity` with a jackknife interval."""
    pools = [_pooled(text) for text in texts]
    return jackknife(lambda chosen: _diversity([pools[i] for i in chosen]), len(pools))


def _pooled(text: str) -> tuple[list[Gram], ...]:
    return tuple(ngrams(text, n) for n in (2, 3, 4))


def _diversity(pools: Sequence[tuple[list[Gram], ...]]) -> float:
    product = 1.0
    for grams in zip(*pools, strict=True):
        total = sum(map(len, grams))
        product *= len(set().union(*grams)) / total if total else 0.0
    return product if pools else 0.0


# ---------------------------------------------------------------- memorisation


def memorisation(texts: Sequence[str], training_texts: Iterable[str], n: int = 4) -> Interval:
    """Mem: share of the texts' n-grams that occur in the training texts, with a bootstrap interval over texts.

    ``training_texts`` is read once, as a stream: memory grows with ``texts`` only.
    """
    grams = [ngrams(text, n) for text in texts]
    found = _seen(set().union(*grams), training_texts, n)
    hits = [sum(gram in found for gram in mine) for mine in grams]
    return bootstrap_ratio(hits, [len(mine) for mine in grams])


def _seen(wanted: set[Gram], training_texts: Iterable[str], n: int) -> set[Gram]:
    seen: set[Gram] = set()
    for text in training_texts:
        seen.update(wanted.intersection(ngrams(text, n)))
    return seen


def copies(texts: Sequence[str], training_texts: Iterable[str]) -> int:
    """How many of the texts are training texts word for word (case and spacing ignored)."""
    mine = [" ".join(words(text)) for text in texts]
    wanted = set(mine)
    seen = {key for key in (" ".join(words(text)) for text in training_texts) if key in wanted}
    return sum(key in seen for key in mine)


# ---------------------------------------------------------------- likeness of two texts


def bleu(texts: Sequence[str], references: Sequence[str]) -> Interval:
    """Corpus BLEU-4 (sacrebleu, tokeniser 13a, cased) from 0 to 1, one reference each, with a jackknife interval."""
    _same_length(texts, references)
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ConfigError("BLEU needs sacrebleu, which is not installed: pip install 'textcosm[eval]'") from error
    scorer = BLEU()

    def score(chosen: list[int]) -> float:
        return scorer.corpus_score([texts[i] for i in chosen], [[references[i] for i in chosen]]).score / 100

    return jackknife(score, len(texts))


@dataclass(frozen=True)
class WrittenForm(Result):
    """How well case and spacing were kept, over the words that were kept at all (aligned, case ignored)."""

    words: Interval
    """Share of aligned words written with exactly the reference's letters."""
    letters: Interval
    """Share of letters in aligned words with the reference's case."""
    spaces: Interval
    """Share of aligned words with white space before them exactly where the reference has it."""
    aligned: Interval
    """Share of the reference's words that could be aligned."""


def written_form(texts: Sequence[str], references: Sequence[str]) -> WrittenForm:
    """Compare case and spacing of ``texts`` with ``references``, word by aligned word."""
    _same_length(texts, references)
    tallies = [_tally(text, reference) for text, reference in zip(texts, references, strict=True)]

    def share(good: str, of: str) -> Interval:
        return bootstrap_ratio([getattr(t, good) for t in tallies], [getattr(t, of) for t in tallies])

    return WrittenForm(
        words=share("words_right", "aligned"),
        letters=share("letters_right", "letters"),
        spaces=share("spaces_right", "aligned"),
        aligned=share("aligned", "expected"),
    )


@dataclass(frozen=True)
class _Tally:
    expected: int
    aligned: int
    words_right: int
    spaces_right: int
    letters: int
    letters_right: int


def _tally(text: str, reference: str) -> _Tally:
    ours, theirs = list(WORD.finditer(text)), list(WORD.finditer(reference))
    pairs = [(ours[i], theirs[j]) for i, j in _aligned([m[0] for m in ours], [m[0] for m in theirs])]
    same_letters = [sum(a == b for a, b in zip(x[0], y[0], strict=False)) for x, y in pairs]
    return _Tally(
        expected=len(theirs),
        aligned=len(pairs),
        words_right=sum(x[0] == y[0] for x, y in pairs),
        spaces_right=sum(_spaced(text, x) == _spaced(reference, y) for x, y in pairs),
        letters=sum(len(y[0]) for _, y in pairs),
        letters_right=sum(same_letters),
    )


def _aligned(ours: list[str], theirs: list[str]) -> Iterator[tuple[int, int]]:
    folded = [entry.casefold() for entry in ours], [entry.casefold() for entry in theirs]
    for block in SequenceMatcher(None, *folded, autojunk=False).get_matching_blocks():
        yield from ((block.a + k, block.b + k) for k in range(block.size))


def _spaced(text: str, word: re.Match[str]) -> bool:
    return word.start() > 0 and text[word.start() - 1].isspace()


def _same_length(texts: Sequence[str], references: Sequence[str]) -> None:
    if len(texts) != len(references):
        raise DataError(f"{len(texts)} texts cannot be compared with {len(references)} references: give one for each")
