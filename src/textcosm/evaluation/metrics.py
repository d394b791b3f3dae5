"""Metrics of texts alone: diversity, memorisation, lengths, BLEU, ROUGE, written form; nothing here needs a model."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any

import numpy as np

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.results import Interval, Result, bootstrap_mean, bootstrap_ratio, jackknife

WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
SENTENCE = re.compile(r"""[.!?]+["'”’)]*(?=\s|$)""")
Gram = tuple[str, ...]
References = Sequence[str] | Sequence[Sequence[str]]
"""What texts are compared with: one reference to a text, or several."""


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


# ---------------------------------------------------------------- self-BLEU (arXiv 1802.01886)


def self_bleu(texts: Sequence[str], sample: int = 1000, seed: int = 0) -> Interval:
    """How alike the texts are: mean of the BLEU-4 of a text with all the other texts as its references, from 0 to 1.

    Sentence BLEU as sacrebleu has it (tokeniser 13a, cased, exponential smoothing, orders that the text has). At most
    ``sample`` texts are scored, drawn by ``seed``; all others are always their references, so it rises with the number
    of texts: compare pools of the same size only. Empty texts are left out. Bootstrap interval over the scored texts.
    Raises DataError for fewer than two texts, ConfigError without sacrebleu.
    """
    scorer = _bleu_scorer(effective_order=True)
    tokens = [entries for entries in (scorer.tokenizer(text.rstrip()).split() for text in texts) if entries]
    if len(tokens) < 2 or sample < 1:
        raise DataError(f"self-BLEU cannot score {sample} of {len(tokens)} texts: give at least 1 of 2 that are not empty")
    counts = [_gram_counts(entries) for entries in tokens]
    most, sizes = _most_of_all(counts), sorted(map(len, tokens))
    chosen = np.random.default_rng(seed).choice(len(tokens), min(sample, len(tokens)), replace=False).tolist()
    scores = [_against_the_others(scorer, i, counts[i], len(tokens[i]), most, sizes) for i in sorted(chosen)]
    return bootstrap_mean(scores)


Most = Mapping[Gram, tuple[int, int, int]]
"""For every n-gram: the highest count in one text, that text's index, and the highest count in any other text."""


def _gram_counts(entries: Sequence[str]) -> Counter[Gram]:
    return Counter(tuple(entries[i : i + n]) for n in (1, 2, 3, 4) for i in range(len(entries) - n + 1))


def _most_of_all(counts: Sequence[Counter[Gram]]) -> Most:
    """One pass over all texts, instead of one for each text that is left out."""
    most: dict[Gram, tuple[int, int, int]] = {}
    for index, mine in enumerate(counts):
        for gram, count in mine.items():
            first, owner, second = most.get(gram, (0, -1, 0))
            most[gram] = (count, index, first) if count > first else (first, owner, max(second, count))
    return most


def _against_the_others(
    scorer: Any, index: int, mine: Counter[Gram], length: int, most: Most, sizes: Sequence[int]
) -> float:
    matches, totals = [0] * 4, [max(length - n, 0) for n in range(4)]
    for gram, count in mine.items():
        first, owner, second = most[gram]
        matches[len(gram) - 1] += min(count, second if owner == index else first)
    closest = _closest_other(sizes, length)
    return scorer.compute_bleu(matches, totals, length, closest, smooth_method="exp", effective_order=True).score / 100


def _closest_other(sizes: Sequence[int], length: int) -> int:
    """The closest of the sorted sizes after taking one ``length`` out; of two as close, the shorter."""
    place = bisect_left(sizes, length)
    others = [sizes[i] for i in (place - 1, place + 1) if 0 <= i < len(sizes)]
    return min(others, key=lambda other: (abs(other - length), other))


# ---------------------------------------------------------------- lengths


@dataclass(frozen=True)
class Lengths(Result):
    """How long texts are; words are words and punctuation marks (see :func:`words`)."""

    words: Interval
    """Mean of a text."""
    words_std: float
    """Standard deviation over texts."""
    words_min: int
    words_median: float
    words_max: int
    sentences: Interval
    """Mean of a text."""


def lengths(texts: Sequence[str]) -> Lengths:
    """Words and sentences of texts, means with bootstrap intervals. Raises DataError for an empty list."""
    if not texts:
        raise DataError("cannot measure 0 texts: give at least 1")
    counts = np.array([len(words(text)) for text in texts])
    return Lengths(
        words=bootstrap_mean(counts.tolist()),
        words_std=float(counts.std()),
        words_min=int(counts.min()),
        words_median=float(np.median(counts)),
        words_max=int(counts.max()),
        sentences=bootstrap_mean([sentence_count(text) for text in texts]),
    )


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


def bleu(texts: Sequence[str], references: References) -> Interval:
    """Corpus BLEU-4 (sacrebleu, tokeniser 13a, cased) from 0 to 1, with a jackknife interval.

    Raises DataError for a text without a reference, ConfigError without sacrebleu.
    """
    several = reference_lists(texts, references)
    scorer = _bleu_scorer()

    def score(chosen: list[int]) -> float:
        streams = list(zip_longest(*(several[i] for i in chosen)))  # sacrebleu skips None: some texts have fewer
        return scorer.corpus_score([texts[i] for i in chosen], streams).score / 100

    return jackknife(score, len(texts))


def _bleu_scorer(effective_order: bool = False) -> Any:
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ConfigError("BLEU needs sacrebleu, which is not installed: pip install 'textcosm[eval]'") from error
    return BLEU(effective_order=effective_order)


@dataclass(frozen=True)
class Rouge(Result):
    """ROUGE F1 from 0 to 1, means over texts: words shared, pairs of words shared, longest common subsequence."""

    rouge1: Interval
    rouge2: Interval
    rougeL: Interval


def rouge(texts: Sequence[str], references: References) -> Rouge:
    """ROUGE-1, -2 and -L (rouge-score, Porter stemmer), each the best of a text's references, with bootstrap intervals.

    Raises DataError for a text without a reference, ConfigError without rouge-score.
    """
    return Rouge(*map(bootstrap_mean, rouge_of_each(texts, references)))


def rouge_of_each(texts: Sequence[str], references: References) -> list[list[float]]:
    """What :func:`rouge` takes the means of: a value a text of ROUGE-1, of ROUGE-2 and of ROUGE-L."""
    several = reference_lists(texts, references)
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ConfigError("ROUGE needs rouge-score, which is not installed: pip install 'textcosm[eval]'") from error
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(names, use_stemmer=True)
    found = [scorer.score_multi(mine, text) for text, mine in zip(texts, several, strict=True)]
    return [[float(scores[name].fmeasure) for scores in found] for name in names]


def reference_lists(texts: Sequence[str], references: References) -> list[list[str]]:
    """Each text's references as a list."""
    _same_length(texts, references)
    several = [[mine] if isinstance(mine, str) else list(mine) for mine in references]
    alone = [number for number, mine in enumerate(several, start=1) if not mine]
    if alone:
        raise DataError(f"{len(alone)} texts have no reference, first text {alone[0]}: give at least one for each")
    return several


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


def _same_length(texts: Sequence[str], references: Sequence[Any]) -> None:
    if len(texts) != len(references):
        raise DataError(f"{len(texts)} texts cannot be compared with {len(references)} references: give one for each")
