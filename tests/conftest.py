"""For every test: shapes checked by jaxtyping and beartype, one thread, no network."""

import os
import socket

import pytest
import torch
from jaxtyping import install_import_hook

# Hubs answer "not cached" at once; the guard below turns any other attempt into a failure.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # tiny tensors: more threads only cost

install_import_hook("textcosm", "typechecker.checked")


@pytest.fixture(scope="session")
def tiny_model():
    """An untrained model over the tiny backbone: every path of the pipeline runs, and no text means anything."""
    from textcosm.testing import tiny_model

    return tiny_model()


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that reaches for another machine fails by name, not by time-out."""
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"):
            return connect(self, address)
        raise AssertionError(f"a test tried to reach {address}: tests bring their own data")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def run(capsys):
    """Run a command of ``textcosm``; returns code, stdout and stderr."""
    from textcosm import cli

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            code = cli.main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def refused(run):
    """Run a command that must fail with nothing on stdout and one line on stderr, which is returned."""

    def call(*arguments: str, code: int = 2) -> str:
        got, out, err = run(*arguments)
        assert (got, out) == (code, ""), err
        assert err.startswith("textcosm: ") and err.count("\n") == 1
        return err

    return call


def pytest_collection_modifyitems(items):
    """Tests marked gpu are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
