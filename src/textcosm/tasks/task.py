"""The seam of the tasks room: where texts come from and how they are judged."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol, runtime_checkable

from textcosm.errors import ConfigError, DataError

SPLITS = ("train", "valid")


@dataclass(frozen=True)
class Example:
    """A text to learn to write; ``source`` is the text that it answers, for conditional tasks."""

    text: str
    source: str | None = None


@runtime_checkable
class Task(Protocol):
    """Texts in splits, and the names of the metrics that judge what a model writes for them."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of metrics, such as "perplexity"."""
        ...

    def examples(self, split: str) -> Iterator[Example]:
        """The examples of a split, always in the same order; "train" and "valid" at least."""
        ...


def examples_of(texts: Iterator[str], split: str, valid_fraction: float) -> Iterator[Example]:
    """The texts of one split, chosen as :func:`in_split` says; raises its ConfigError."""
    chosen = in_split(split, valid_fraction)
    return (Example(text) for text in texts if chosen(text))


def in_split(split: str, valid_fraction: float) -> Callable[[str], bool]:
    """Whether a text is in a split, by its hash: equal texts fall on the same side, in any file and any order.

    Raises:
        ConfigError: ``split`` is neither "train" nor "valid".
    """
    if split not in SPLITS:
        raise ConfigError(f"no split {split!r}; choose one of {', '.join(SPLITS)}")
    return lambda text: _is_valid(text, valid_fraction) == (split == "valid")


def _is_valid(text: str, fraction: float) -> bool:
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def choose_field(fields: dict[str, bool], wanted: str | None, where: str) -> str:
    """The field that holds the texts: the wanted one, else "text", else the only one of text.

    ``fields`` says of each field whether it holds text; ``where`` names the data in the message.

    Raises:
        DataError: there is no such field, or several could be meant; the message names those there are.
    """
    there = ", ".join(fields) or "none"
    if wanted is not None:
        if wanted in fields:
            return wanted
        raise DataError(f"{where} has no field {wanted!r}; it has: {there}. Name one of these with --text-field")
    candidates = [field for field, is_text in fields.items() if is_text]
    if "text" in candidates:
        return "text"
    if len(candidates) == 1:
        return candidates[0]
    raise DataError(f"{where} has {len(candidates)} fields of text; it has: {there}. Name one with --text-field")
