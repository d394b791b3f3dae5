"""A stand-in for the `datasets` library: tests reach no hub."""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import pytest

ROWS = [{"id": i, "story": f"Story number {i}."} for i in range(500)]


@pytest.fixture
def hub(monkeypatch) -> SimpleNamespace:
    """A `datasets` library that answers with ``rows`` and keeps what it was asked."""
    answer = SimpleNamespace(rows=ROWS, asked=None)

    def load_dataset(path, config, split, streaming):
        answer.asked = path, config, split, streaming
        if isinstance(answer.rows, Exception):
            raise answer.rows
        return answer.rows

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True if name == "datasets" else find(name))
    return answer
