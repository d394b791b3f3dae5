"""The tasks room: where texts come from and how they are judged."""

from textcosm.tasks.files import DataConfig, FileTask, read_texts
from textcosm.tasks.hub import PREFIX, HubTask
from textcosm.tasks.task import Example, Task

__all__ = ["DataConfig", "Example", "FileTask", "HubTask", "Task", "open_task", "read_texts"]


def open_task(data: str, config: DataConfig) -> Task:
    """The task of a file, or of a hub dataset named ``hf:OWNER/NAME``.

    Raises:
        DataError: the `datasets` package is missing; a file's own faults show when its examples are read.
    """
    if data.startswith(PREFIX):
        return HubTask(data.removeprefix(PREFIX), config.text_field, config.valid_fraction)
    return FileTask(data, config.text_field, config.valid_fraction)
