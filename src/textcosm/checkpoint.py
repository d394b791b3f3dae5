"""Named states <-> a folder of safetensors shards and one JSON file: versioned, checksummed, whole or absent.

::

    DIR/config.json                      format, version, metadata, and the sha256 of every other file
    DIR/STATE-00001.safetensors ...      the tensors of one state, at most 15 MB a shard
    DIR/tokenizer.json ...               whatever text files the caller adds

Reduced precision touches matrices named ``...weight`` only: gains, statistics and tables are small and stay float32.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from textcosm.errors import CheckpointError, ConfigError

FORMAT = "textcosm"
VERSION = 1
INDEX = "config.json"
SHARD_BYTES = 15_000_000
SCALES = "::scales"
"""Suffix of the per-row scales beside an int8 matrix."""
PART = "::part"
"""Suffix of a run of rows of a matrix that is larger than a shard."""

MATRICES = ("weight", "linear.directions", "linear.answers")
"""Ends of the names of what a lower precision is for: parameters, and the linear guess, which is larger than they are."""
PRECISIONS = ("float32", "bfloat16", "int8")
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """What a folder holds: tensors by state and name (float32 where they were reduced), free metadata, text files."""

    states: dict[str, dict[str, Tensor]]
    metadata: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


def save_states(
    directory: str | Path,
    states: Mapping[str, State],
    metadata: Mapping[str, Any] | None = None,
    precision: str = "float32",
    files: Mapping[str, str] | None = None,
) -> None:
    """Write ``directory`` whole or not at all: a model that stood there before is replaced only by a complete one.

    Raises :class:`CheckpointError` when the folder holds something else than a model, or cannot be written (full disk).
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}")
    target = Path(directory).expanduser().resolve()
    _refuse_foreign(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            draft.chmod(0o755)  # mkdtemp makes it private; a checkpoint is as readable as any folder
            _write_all(draft, states, dict(metadata or {}), precision, dict(files or {}))
            _put_in_place(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CheckpointError(f"{directory} was not saved: {reason}; nothing was left half-written") from error


def load_states(directory: str | Path) -> Checkpoint:
    """Read and verify a folder that :func:`save_states` wrote; CheckpointError says in a line what is wrong."""
    folder = Path(directory).expanduser()
    index = read_index(folder)
    contents = {name: _read_verified(folder / name, digest) for name, digest in index["sha256"].items()}
    states = {state: _join(_tensors(contents, shards, folder)) for state, shards in index["states"].items()}
    files = {name: contents[name].decode() for name in index["files"]}
    return Checkpoint(states, index["metadata"], files)


def read_index(directory: str | Path) -> dict[str, Any]:
    """The JSON of a checkpoint (metadata, shard names, checksums) without its tensors."""
    folder = Path(directory).expanduser()
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; give the folder that a training run or save() wrote")
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder} holds no model ({INDEX} is missing); give a folder that save() wrote"
        ) from None
    except ValueError:
        raise CheckpointError(f"{folder / INDEX} is damaged (not JSON); copy or download the model again") from None
    except OSError as error:
        raise CheckpointError(f"{folder / INDEX} cannot be read: {error.strerror}") from error
    _check_index(index, folder)
    return index


class WithoutInitialisation(TorchFunctionMode):
    """Modules made inside start with any weights: those that :func:`load_into` fills need none drawn, which is slow."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def load_into(module: nn.Module, state: State, where: str) -> None:
    """Fill ``module`` with ``state``; every tensor must be there, none left over, each of the right shape."""
    wanted = module.state_dict()
    missing, unexpected = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    odd = [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    for problem, names in (("lacks", missing), ("has unexpected", unexpected), ("has wrongly shaped", odd)):
        if names:
            raise CheckpointError(
                f"{where} {problem} {len(names)} tensor(s), first {names[0]!r}; it comes from another version or settings"
            )
    module.load_state_dict(dict(state))


@contextmanager
def whole_file(path: str | Path) -> Iterator[IO[str]]:
    """A text file that appears under its name only when the block ends well; an earlier file stays until then."""
    target = Path(path).expanduser()
    if target.exists() and not target.is_file():  # a pipe or a device is written to, never replaced
        with target.open("w", encoding="utf-8") as file:
            yield file
        return
    try:
        draft = tempfile.NamedTemporaryFile(  # noqa: SIM115 (closed below, before the rename)
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        )
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error.strerror}") from error
    try:
        with draft as file:
            yield cast(IO[str], file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(draft.name, 0o644)
        os.replace(draft.name, target)
    except BaseException:
        Path(draft.name).unlink(missing_ok=True)
        raise


# --- writing


def _refuse_foreign(target: Path) -> None:
    """Replacing a folder deletes what is in it: only an empty one or an earlier model may be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise CheckpointError(f"{target} is a file; give a folder to save into")
    if any(target.iterdir()) and not _is_ours(target):
        raise CheckpointError(f"{target} is not empty and holds no textcosm model; give a new or empty folder")


def _is_ours(folder: Path) -> bool:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(index, dict) and index.get("format") == FORMAT


def _write_all(
    draft: Path, states: Mapping[str, State], metadata: dict[str, Any], precision: str, files: dict[str, str]
) -> None:
    sums: dict[str, str] = {}
    shards: dict[str, list[str]] = {state: [] for state in states}
    for state, tensors in states.items():
        for number, shard in enumerate(_shards(_reduced(tensors, precision)), start=1):
            name = f"{state}-{number:05d}.safetensors"
            sums[name] = _write(draft / name, _serialise(shard))
            shards[state].append(name)
    for name, text in files.items():
        sums[name] = _write(draft / name, text.encode())
    index = {"format": FORMAT, "version": VERSION, "precision": precision, "metadata": metadata}
    index |= {"states": shards, "files": list(files), "sha256": sums}
    _write(draft / INDEX, json.dumps(index, indent=2, ensure_ascii=False).encode())


def _write(path: Path, content: bytes) -> str:
    """Write through to the disk, so that a rename never publishes an empty file; the sha256 of the content."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _serialise(tensors: dict[str, Tensor]) -> bytes:
    """safetensors as bytes, not ``save_file``: then the operating system's own error says that the disk is full."""
    from safetensors.torch import save

    return save(tensors)


def _put_in_place(draft: Path, target: Path) -> None:
    """Rename; an earlier model steps aside first and comes back if the rename fails."""
    if not target.exists():
        draft.rename(target)
        return
    aside = draft.with_name(draft.name + ".earlier")
    target.rename(aside)
    try:
        draft.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _reduced(tensors: State, precision: str) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu()
        is_matrix = name.endswith(MATRICES) and tensor.ndim == 2 and tensor.dtype == torch.float32
        if is_matrix and precision == "int8":
            codes, scales = quantise(tensor)
            yield from ((name, codes), (name + SCALES, scales))
        elif is_matrix and precision == "bfloat16":
            yield name, tensor.bfloat16()
        else:
            yield name, tensor


def _shards(tensors: Iterator[tuple[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Pack tensors, in order, into shards of at most SHARD_BYTES (one row that is larger stays whole)."""
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in (part for named in tensors for part in _parts(*named)):
        if shard and size + tensor.nbytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor.contiguous().clone()  # a copy: safetensors refuses tensors that share memory
        size += tensor.nbytes
    if shard:
        yield shard


def _parts(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if tensor.nbytes <= SHARD_BYTES or tensor.ndim == 0:
        yield name, tensor
        return
    rows = max(1, SHARD_BYTES * len(tensor) // tensor.nbytes)
    for number, part in enumerate(tensor.split(rows)):
        yield f"{name}{PART}{number:05d}", part


def quantise(weight: Float[Tensor, "rows columns"]) -> tuple[Int8[Tensor, "rows columns"], Float[Tensor, "rows 1"]]:
    """Symmetric int8 with one float scale per row (output channel): ``weight ~ codes * scales``."""
    scales = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
    return (weight / scales).round().clamp(-127, 127).to(torch.int8), scales


# --- reading


def _check_index(index: Any, folder: Path) -> None:
    if not isinstance(index, dict) or index.get("format") != FORMAT:
        raise CheckpointError(f"{folder} holds no textcosm model ({INDEX} is of another program)")
    if index.get("version") != VERSION:
        raise CheckpointError(
            f"{folder} has format version {index.get('version')}; this textcosm reads version {VERSION}: "
            "install the textcosm that wrote it, or save it again"
        )
    shapes = {"metadata": dict, "states": dict, "files": list, "sha256": dict}
    wrong = [key for key, kind in shapes.items() if not isinstance(index.get(key), kind)]
    if not wrong:
        listed = [name for shards in index["states"].values() for name in shards] + index["files"]
        wrong = [name for name in listed if name not in index["sha256"]]
    if wrong or any(Path(name).name != name for name in index["sha256"]):  # a name never leads out of the folder
        raise CheckpointError(f"{folder / INDEX} is damaged (check {wrong or 'sha256'}); copy the model again")


def _read_verified(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; copy or download the model again") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(
            f"{path} is truncated or altered ({len(content)} bytes, checksum differs); copy or download the model again"
        )
    return content


def _tensors(contents: dict[str, bytes], shards: list[str], folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    found: dict[str, Tensor] = {}
    for shard in shards:
        try:
            found |= load(contents[shard])
        except SafetensorError as error:
            raise CheckpointError(f"{folder / shard} is not a safetensors file: {error}") from error
    return found


def _join(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo parts, then int8, then bfloat16 of matrices."""
    parts: dict[str, list[Tensor]] = {}
    for name in sorted(stored):
        parts.setdefault(name.split(PART)[0], []).append(stored[name])
    whole = {name: rows[0] if len(rows) == 1 else torch.cat(rows) for name, rows in parts.items()}
    tensors: dict[str, Tensor] = {}
    for name, tensor in whole.items():
        if name.endswith(SCALES):
            continue
        if name + SCALES in whole:
            tensor = tensor.float() * whole[name + SCALES]
        elif tensor.dtype == torch.bfloat16 and name.endswith(MATRICES):
            tensor = tensor.float()
        tensors[name] = tensor
    return tensors
