"""Texts and records from a dataset of a hub, by the `datasets` library."""

import importlib.util
import itertools
from collections.abc import Iterator

from textcosm.errors import DataError
from textcosm.tasks.task import Example, choose_field, examples_of

PREFIX = "hf:"


class HubTask:
    """Unconditional writing after the training split of a hub dataset, streamed.

    ``name`` is the dataset's, as ``owner/name``, or ``owner/name:config`` for one of several configurations. Validation
    texts are taken from the same split by a hash of each text, as they are for files.

    Raises:
        DataError: the `datasets` package is missing.
    """

    metrics: tuple[str, ...] = ("perplexity", "diversity", "memorisation")

    def __init__(self, name: str, field: str | None = None, valid_fraction: float = 0.02):
        _check(name)
        self.name, self.field, self.valid_fraction = name, field, valid_fraction

    def examples(self, split: str) -> Iterator[Example]:
        """The texts of "train" or "valid" in the order of the dataset.

        Raises:
            DataError: the dataset cannot be read, or has no such field.
        """
        return examples_of(self._texts(), split, self.valid_fraction)

    def _texts(self) -> Iterator[str]:
        where = f"{PREFIX}{self.name}"
        rows = _rows(self.name)
        first = next(rows, None)
        if first is None:
            raise DataError(f"{where} holds no text; give a dataset with at least one")
        chosen = choose_field({key: isinstance(value, str) for key, value in first.items()}, self.field, where)
        for row in itertools.chain([first], rows):
            if isinstance(row[chosen], str) and row[chosen].strip():
                yield row[chosen]


def hub_records(name: str) -> Iterator[tuple[str, dict]]:
    """The records of a dataset's training split, each with its place in words, for messages about it.

    Raises:
        DataError: the `datasets` package is missing, or the dataset cannot be read.
    """
    _check(name)
    return ((f"{PREFIX}{name}, row {number}", row) for number, row in enumerate(_rows(name), start=1))


def _check(name: str) -> None:
    if not name.strip():
        raise DataError(f"no dataset after {PREFIX!r}; give {PREFIX}OWNER/NAME")
    if importlib.util.find_spec("datasets") is None:
        raise DataError(f"{PREFIX}{name} needs the datasets package; run: pip install 'textcosm[data]'")


def _rows(name: str) -> Iterator[dict]:
    import datasets

    path, _, config = name.partition(":")
    try:
        yield from datasets.load_dataset(path, config or None, split="train", streaming=True)
    except Exception as error:  # the library lets through whatever its readers and its network layer raise
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{PREFIX}{name} cannot be read ({reason}); check the name and the network") from error
