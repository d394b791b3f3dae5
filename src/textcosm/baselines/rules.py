"""The rivals that learn nothing: the source as it is, its first sentence, and the source without its toxic words."""

import re
from collections.abc import Callable, Iterator, Sequence

from textcosm.errors import ConfigError
from textcosm.evaluation.paired import toxicity
from textcosm.evaluation.subject import Subject
from textcosm.tasks.focus import SENTENCE

PREFIX = "rule:"
"""Before a rule's name, where a model could be named as well."""
BATCH = 64
"""Texts handed over at a time."""
MARGIN = ".,;:!?\"'()[]{}-"
"""What stands around a word and is not of it; a word may hold signs such as * or $ in place of letters."""


def copy(sources: Sequence[str]) -> list[str]:
    """Each source as it is: what a change must be better than."""
    return list(sources)


def lead(sources: Sequence[str]) -> list[str]:
    """The first sentence of each source (LEAD-1): what a summary must be better than."""
    found = (SENTENCE.search(source) for source in sources)
    return [match.group() if match else "" for match in found]


def delete(sources: Sequence[str]) -> list[str]:
    """Each source without the words that alt-profanity-check calls toxic (probability above a half, each word alone).

    Nothing may be left of a source. So deletes ParaDetox (ACL 2022, 2022.acl-long.469), with a list of words of its own.
    Raises ConfigError where the package is missing.
    """
    words = sorted({word for source in sources for word in map(_bare, source.split()) if word})
    toxic = {word for word, chance in zip(words, toxicity(words), strict=True) if chance > 0.5}
    return [_without(source, toxic) for source in sources]


RULES: dict[str, Callable[[Sequence[str]], list[str]]] = {"copy": copy, "lead": lead, "delete": delete}


def is_rule(given: str) -> bool:
    """Whether a rule is named, as ``rule:copy``."""
    return given.startswith(PREFIX)


def open_rule(given: str, sources: Callable[[int, int], list[str]], name: str | None = None) -> Subject:
    """What ``given``, such as ``rule:copy``, names, for evaluation; ``sources(n, seed)`` gives what it answers.

    Raises ConfigError listing the rules.
    """
    rule = RULES.get(given.removeprefix(PREFIX))
    if rule is None:
        raise ConfigError(f"there is no rule {given!r}; choose one of {', '.join(PREFIX + known for known in RULES)}")

    def texts(n: int, seed: int) -> Iterator[list[str]]:
        drawn = sources(n, seed)
        return (rule(drawn[start : start + BATCH]) for start in range(0, n, BATCH))

    called = name or given.removeprefix(PREFIX)
    return Subject(called, {"name": called, "kind": given}, texts, sources)


def _bare(word: str) -> str:
    return word.strip(MARGIN)


def _without(source: str, toxic: set[str]) -> str:
    """``source`` without these words, and with its spaces mended: what stood around a word stays."""
    kept = (word.replace(_bare(word), "") if _bare(word) in toxic else word for word in source.split())
    text = re.sub(r"\s+([.,;:!?)\]}])", r"\1", " ".join(filter(None, kept)))
    return text.lstrip(".,;:!?) ").strip()
