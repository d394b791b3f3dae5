"""The tasks room: where texts come from and how they are judged."""

from textcosm.tasks.files import DataConfig, FileTask, read_texts
from textcosm.tasks.focus import focused
from textcosm.tasks.hub import PREFIX, HubTask
from textcosm.tasks.named import TASKS, NamedTask, named_task
from textcosm.tasks.pairs import Pair, PairTask, pairs_of, read_pairs, read_sources
from textcosm.tasks.task import Example, Task

__all__ = [
    "PREFIX",
    "TASKS",
    "DataConfig",
    "Example",
    "FileTask",
    "HubTask",
    "NamedTask",
    "Pair",
    "PairTask",
    "Task",
    "focused",
    "named_task",
    "open_task",
    "pairs_of",
    "read_pairs",
    "read_sources",
    "read_texts",
]


def open_task(data: str, config: DataConfig) -> Task:
    """The task of a file, or of a hub dataset named ``hf:OWNER/NAME``: of pairs where ``config`` asks for them.

    Raises:
        DataError: the `datasets` package is missing; a file's own faults show when its examples are read.
    """
    if config.is_paired:
        return PairTask(data, config)
    if data.startswith(PREFIX):
        return HubTask(data.removeprefix(PREFIX), config.text_field, config.valid_fraction)
    return FileTask(data, config.text_field, config.valid_fraction)
