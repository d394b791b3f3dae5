"""Saving and loading named states: exact, reduced, whole or not at all, and clear about what is wrong."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from textcosm import checkpoint
from textcosm.checkpoint import WithoutInitialisation, load_into, load_states, quantise, read_index, save_states
from textcosm.errors import CheckpointError, ConfigError


def states() -> dict[str, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": {"layer.weight": torch.randn(7, 5, generator=generator), "gain": torch.randn(5, generator=generator)},
        "b": {"mean": torch.randn(4, 3, generator=generator), "steps": torch.tensor(12), "seen": torch.ones(3).bool()},
    }


def save(folder: Path, **options) -> Path:
    save_states(folder, states(), {"note": "Zürich"}, files={"tokenizer.json": '{"é": 1}'}, **options)
    return folder


def test_round_trip_is_exact(tmp_path):
    found = load_states(save(tmp_path / "new" / "model"))
    for state, tensors in states().items():
        assert found.states[state].keys() == tensors.keys()
        for name, tensor in tensors.items():
            torch.testing.assert_close(found.states[state][name], tensor, rtol=0, atol=0)
    assert found.metadata == {"note": "Zürich"}
    assert found.files == {"tokenizer.json": '{"é": 1}'}
    assert os.listdir(tmp_path / "new") == ["model"], "no draft is left beside it"


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 2**-8), ("int8", 0.5 / 127)])
def test_reduced_precision_touches_matrices_only(tmp_path, precision, tolerance):
    found = load_states(save(tmp_path / "model", precision=precision)).states
    for state, tensors in states().items():
        for name, tensor in tensors.items():
            read = found[state][name]
            assert read.dtype == tensor.dtype
            if name.endswith("weight"):
                largest = tensor.abs().amax(dim=1, keepdim=True)
                assert ((read - tensor).abs() <= largest * tolerance * 1.001).all()
                assert not torch.equal(read, tensor)
            else:
                assert torch.equal(read, tensor)


def test_quantise_keeps_rows_of_zeros_and_the_largest_value():
    weight = torch.tensor([[0.0, 0.0], [2.0, -1.0]])
    codes, scales = quantise(weight)
    assert codes.tolist() == [[0, 0], [127, -64]]
    torch.testing.assert_close(codes[1, 0] * scales[1, 0], torch.tensor(2.0))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_large_matrices_are_cut_into_shards(tmp_path, monkeypatch, precision):
    monkeypatch.setattr(checkpoint, "SHARD_BYTES", 1000)
    weight = torch.arange(3000.0).reshape(300, 10)
    save_states(tmp_path / "model", {"a": {"x.weight": weight, "y": torch.ones(3)}}, precision=precision)
    shards = list((tmp_path / "model").glob("*.safetensors"))
    assert len(shards) > 3
    assert all(shard.stat().st_size < 1000 + 300 for shard in shards), "a header more than the limit at most"
    found = load_states(tmp_path / "model").states["a"]["x.weight"]
    torch.testing.assert_close(found, weight, rtol=0, atol=0 if precision == "float32" else 12)


def test_tensors_that_share_memory_are_saved_apart(tmp_path):
    table = torch.randn(6, 2)
    save_states(tmp_path / "model", {"a": {"all": table, "head": table[:2], "turned": table.T}})
    found = load_states(tmp_path / "model").states["a"]
    assert torch.equal(found["head"], table[:2]) and torch.equal(found["turned"], table.T)


def test_an_earlier_model_is_replaced_with_all_its_files(tmp_path):
    folder = save(tmp_path / "model")
    (folder / "README.md").write_text("the card of the earlier model")
    save_states(folder, {"c": {"x": torch.zeros(1)}})
    assert load_states(folder).states.keys() == {"c"}
    assert sorted(os.listdir(folder)) == ["c-00001.safetensors", "config.json"]
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(CheckpointError, match="not empty and holds no textcosm model"):
        save(tmp_path)
    with pytest.raises(CheckpointError, match="is a file"):
        save(tmp_path / "thesis.txt")
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_unknown_precision(tmp_path):
    with pytest.raises(ConfigError, match="'int4' is unknown; choose one of float32, bfloat16, int8"):
        save(tmp_path / "model", precision="int4")


# --- a full disk


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("writes", [0, 1, 3])
def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, earlier, writes):
    folder = tmp_path / "model"
    if earlier:
        save_states(folder, {"earlier": {"x": torch.zeros(1)}})
    before = sorted(os.listdir(tmp_path))
    write, left = checkpoint._write, iter(range(writes))

    def filling(path: Path, content: bytes) -> str:
        if next(left, None) is None:
            path.write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, content)

    monkeypatch.setattr(checkpoint, "_write", filling)
    with pytest.raises(CheckpointError, match="model was not saved: No space left on device") as caught:
        save(folder)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before
    if earlier:
        assert load_states(folder).states.keys() == {"earlier"}


def test_failed_rename_brings_the_earlier_model_back(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    save_states(folder, {"earlier": {"x": torch.zeros(1)}})
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.startswith(".model.") and not self.name.endswith(".earlier"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(CheckpointError, match="Input/output error"):
        save(folder)
    assert load_states(folder).states.keys() == {"earlier"}
    assert os.listdir(tmp_path) == ["model"]


def test_the_kernel_refuses_to_write_more(tmp_path):
    """A limit on the size of files, set by the operating system: a real error from a real write."""
    script = (
        "import torch, sys; from textcosm.checkpoint import save_states\n"
        "save_states(sys.argv[1], {'a': {'x': torch.zeros(100_000)}})"
    )

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "model")],
        capture_output=True, text=True, preexec_fn=small_files_only, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "was not saved: File too large" in done.stderr
    assert os.listdir(tmp_path) == []


# --- damaged folders


def test_no_folder_and_no_model(tmp_path):
    with pytest.raises(CheckpointError, match="is not a folder"):
        load_states(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no model"):
        load_states(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
@pytest.mark.parametrize("name", ["a-00001.safetensors", "tokenizer.json"])
def test_damaged_files_are_noticed(tmp_path, damage, name):
    path = save(tmp_path / "model") / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-3] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    expected = "is missing" if damage == "missing" else "truncated or altered"
    with pytest.raises(CheckpointError, match=expected) as caught:
        load_states(tmp_path / "model")
    assert name in str(caught.value) and "\n" not in str(caught.value)


def edit_index(folder: Path, **changes) -> None:
    index = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(index | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": 99}, "format version 99; this textcosm reads version 1"),
        ({"format": "bert"}, "of another program"),
        ({"sha256": {}}, "is damaged"),
        ({"states": []}, "is damaged"),
        ({"sha256": {"../../etc/passwd": ""}, "states": {}, "files": []}, "is damaged"),
    ],
)
def test_other_versions_and_damaged_indexes(tmp_path, changes, expected):
    folder = save(tmp_path / "model")
    edit_index(folder, **changes)
    with pytest.raises(CheckpointError, match=expected):
        load_states(folder)


def test_index_that_is_not_json(tmp_path):
    folder = save(tmp_path / "model")
    (folder / "config.json").write_text('{"format": "textc')
    with pytest.raises(CheckpointError, match="not JSON"):
        read_index(folder)


# --- tensors into modules


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"weight": torch.zeros(2, 3)}, "part lacks 1 tensor.* first 'bias'"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "more": torch.zeros(1)}, "has unexpected 1.*'more'"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, "has wrongly shaped 1.*'weight'"),
    ],
)
def test_load_into_is_strict(state, expected):
    with pytest.raises(CheckpointError, match=expected):
        load_into(nn.Linear(3, 2), state, "part")


def test_modules_to_be_filled_draw_no_random_numbers():
    before = torch.get_rng_state()
    with WithoutInitialisation():
        module = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Embedding(4, 2))
    wanted = {name: torch.full_like(tensor, 0.5) for name, tensor in module.state_dict().items()}
    load_into(module, wanted, "part")
    assert all((tensor == 0.5).all() for tensor in module.state_dict().values())
    nn.Linear(1, 1)
    after = torch.get_rng_state()
    torch.set_rng_state(before)
    nn.Linear(1, 1)
    assert torch.equal(torch.get_rng_state(), after)


def test_load_into_fills_the_module():
    module = nn.Linear(3, 2)
    load_into(module, {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, "part")
    assert module(torch.ones(3)).tolist() == [3, 3]
