"""The texts that a command is given: files, the lines of stdin, or the words themselves."""

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from textcosm.errors import DataError
from textcosm.tasks import PREFIX
from textcosm.tasks.files import READERS

LONGEST_NAME = 255
"""Characters of a file's name: systems refuse to look for a longer one."""


def given_texts(given: Sequence[str], read: Callable[[str], Iterator[str]]) -> list[str]:
    """The texts of all that was ``given``, in order: of a file or a dataset as ``read`` has it, of stdin (``-``) a line each.

    What is neither is a text itself. Raises DataError as ``read`` and :func:`stdin_lines` do.
    """
    texts: list[str] = []
    for one in given:
        if one == "-":
            texts += stdin_lines()
        else:
            texts += read(one) if is_data(one) else [one]
    return texts


def is_data(given: str) -> bool:
    """Whether this is a file, or is meant to be one: a word that ends as files of texts do, or names a hub dataset."""
    if len(given) > LONGEST_NAME:
        return False
    path = Path(given)
    if path.is_file():
        return True
    one_word = not any(character.isspace() for character in given)
    return one_word and (given.startswith(PREFIX) or any(suffix.lower() in READERS for suffix in path.suffixes))


def stdin_lines() -> Iterator[str]:
    """The lines of stdin that are not blank, without their ends; DataError for one that is not UTF-8."""
    for number, line in enumerate(sys.stdin.buffer, start=1):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            raise DataError(f"line {number} of stdin is not UTF-8; convert it first (iconv -t utf-8)") from None
        if text:
            yield text
