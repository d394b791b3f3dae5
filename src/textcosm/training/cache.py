"""The corpus on disk, encoded once: ragged tokens and activations, and latents, memory-mapped.

::

    DIR/meta.json                           the settings that it was made with, and counts; written last
    DIR/lengths.bin tokens.bin forms.bin    texts: int32, int32, uint8, one text after the other
    DIR/rows.bin                            activations (a row a token) or latents (a row a text), float16
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from jaxtyping import Float16, Int
from torch import Tensor

from textcosm.config import differences
from textcosm.errors import TrainingError
from textcosm.shapes import Activations, Forms, Mask, Tokens
from textcosm.text.backbone import Backbone
from textcosm.text.tokenizer import TokenBatch

META = "meta.json"
ROWS = "rows.bin"
TEXT_FILES = ("lengths.bin", "tokens.bin", "forms.bin")
TOKENISE_AT_ONCE = 1024
"""Texts per call of the tokenizer."""
LARGEST = 65504.0
"""The largest float16; the few massive activations of causal language models stay below it."""


class Stopped(Exception):
    """A stop was asked for while something was under way that cannot return a value; :func:`train` catches it."""


@dataclass(frozen=True)
class TextBatch:
    """Some texts of a store, padded to the longest of them (or to a multiple)."""

    tokens: Tokens
    forms: Forms
    mask: Mask
    activations: Activations | None
    """Raw (not standardised) float32; zero at padding."""


class TextStore:
    """The texts of one split, and their activations where they are cached; a text's index is its place in the data."""

    def __init__(self, directory: Path, activations: Path | None = None):
        meta = read_meta(directory)
        self.count, self.cut, self.main, self.pad_id = meta["texts"], meta["cut"], meta["main"], meta["pad_id"]
        self.left_out = meta.get("left_out", 0)  # stores from before there were pairs do not say
        self.lengths = torch.from_numpy(np.fromfile(directory / "lengths.bin", np.int32)).long()
        self.starts = self.lengths.cumsum(0) - self.lengths
        total = int(self.lengths.sum())
        self.tokens = _map(directory / "tokens.bin", np.int32, (total,))
        self.forms = _map(directory / "forms.bin", np.uint8, (total,))
        self.activations = None if activations is None else open_rows(activations)

    def __len__(self) -> int:
        return self.count

    def to(self, device: torch.device) -> "TextStore":
        """Keep everything on the device, where a batch is then one gather (for a GPU with room to spare)."""
        self.tokens, self.forms = self.tokens.to(device), self.forms.to(device)
        self.activations = None if self.activations is None else self.activations.to(device)
        return self

    def neighbours(self) -> tuple[Tensor, Tensor, Tensor]:
        """All tokens end to end, the token before each (a text's first follows itself), and their forms."""
        tokens, forms = self.tokens.long(), self.forms.long()
        places = torch.arange(len(tokens), device=tokens.device) - 1
        starts = self.starts.to(tokens.device)
        places[starts] = starts
        return tokens, tokens[places], forms

    def beginning(self, most: int) -> tuple[Int[Tensor, " tokens"], Int[Tensor, " texts"]]:
        """The tokens of the first ``most`` texts of the main corpus end to end, and where each text begins."""
        count = min(self.main, most)
        end = int(self.lengths[:count].sum())
        return self.tokens[:end].long(), self.starts[:count]

    def positions(
        self, indices: Sequence[int] | Tensor, multiple: int = 1, limit: int | None = None
    ) -> tuple[Int[Tensor, "batch length"], Mask]:
        """Where each token of these texts is in the flat arrays (padding points at the text's first), and the mask."""
        chosen = torch.as_tensor(indices)
        lengths = self.lengths[chosen]
        longest = int(lengths.max())
        longest = max(longest, min(-(-longest // multiple) * multiple, limit or longest))
        offsets = torch.arange(longest)[None, :]
        mask = offsets < lengths[:, None]
        return self.starts[chosen][:, None] + offsets * mask, mask

    def batch(
        self, indices: Sequence[int] | Tensor, device: torch.device, multiple: int = 1, limit: int | None = None
    ) -> TextBatch:
        """These texts on ``device``, padded to the longest, or to a ``multiple`` of positions within ``limit``."""
        places, mask = self.positions(indices, multiple, limit)
        places, mask = places.to(self.tokens.device), mask.to(device)
        tokens = self.tokens[places].to(device).long().masked_fill(~mask, self.pad_id)
        forms = self.forms[places].to(device).long().masked_fill(~mask, 0)
        hidden = None
        if self.activations is not None:
            hidden = self.activations[places].to(device).float() * mask[..., None]
        return TextBatch(tokens, forms, mask, hidden)


# --- making stores


def write_texts(
    directory: Path,
    corpora: Sequence[Iterable[str]],
    backbone: Backbone,
    max_length: int,
    settings: Mapping[str, Any],
    stop: Callable[[], bool],
    left_out: Callable[[], int] = lambda: 0,
) -> Iterator[int]:
    """Tokenise once; yields the number of texts so far. The first corpus is the main one, others only feed the autoencoder.

    left_out: how many records of the data gave no text, once the corpora are read.
    """
    draft = _new_draft(directory)
    try:
        counts, cut = [], 0
        with ExitStack() as stack:
            files = [stack.enter_context((draft / name).open("wb")) for name in TEXT_FILES]
            for corpus in corpora:
                counts.append(0)
                texts = iter(corpus)
                while part := list(islice(texts, TOKENISE_AT_ONCE)):
                    found = backbone.tokenize(part, max_length)
                    _append(files, found)
                    counts[-1] += len(part)
                    cut += found.cut
                    yield sum(counts)
                    if stop():
                        raise Stopped
        meta = {"texts": sum(counts), "main": counts[0], "cut": cut, "pad_id": backbone.tokenizer.pad_id}
        meta["left_out"] = left_out()
        _publish(draft, directory, settings, meta)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _append(files: Sequence[BinaryIO], batch: TokenBatch) -> None:
    values = batch.mask.sum(1).int(), batch.tokens[batch.mask].int(), batch.forms[batch.mask].to(torch.uint8)
    for file, array in zip(files, values, strict=True):
        file.write(array.numpy().tobytes())


def write_rows(
    directory: Path,
    shape: Sequence[int],
    parts: Sequence[Any],
    rows_of: Callable[[Any], tuple[Tensor, Tensor]],
    settings: Mapping[str, Any],
    stop: Callable[[], bool],
) -> Iterator[int]:
    """Fill a float16 array part by part, ``rows_of(part) -> (row numbers, rows)``; yields the number of parts done.

    If stopped, the same call with the same settings goes on from there.
    """
    draft = _draft(directory)
    done = _progress(draft, settings)
    if done == 0:
        _new_draft(directory)
        _reserve(draft / ROWS, shape)
    rows = _map(draft / ROWS, np.float16, tuple(shape), mode="r+")
    try:
        for part in islice(parts, done, None):
            where, values = rows_of(part)
            rows[where] = values.detach().cpu().clamp(-LARGEST, LARGEST).half()
            done += 1
            yield done
            if stop():
                raise Stopped
    finally:
        _flush(draft / ROWS)
        if done < len(parts):
            _write_json(draft / META, {"settings": dict(settings), "done": done})
    _publish(draft, directory, settings, {"shape": list(shape)})


def open_rows(directory: Path) -> Float16[Tensor, "rows ..."]:
    """The array of :func:`write_rows`, memory-mapped."""
    return _map(directory / ROWS, np.float16, tuple(read_meta(directory)["shape"]))


def is_made(directory: Path, settings: Mapping[str, Any]) -> bool:
    """True if this store is there and of these settings; :class:`TrainingError` naming the first that differs."""
    if not (directory / META).exists():
        return False
    check_settings(directory, settings, read_meta(directory)["settings"])
    return True


def read_meta(directory: Path) -> dict[str, Any]:
    """Counts and settings of a store."""
    try:
        return json.loads((directory / META).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{directory} is not a whole cache ({error}); delete that folder to make it again"
        ) from error


def check_settings(directory: Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """A folder goes on only with the settings that it began with."""
    ours = json.loads(json.dumps(ours))
    changed = differences(ours, theirs)
    if changed:
        now, then = _value(ours, changed[0]), _value(theirs, changed[0])
        raise TrainingError(
            f"{directory} was made with {changed[0]} = {then}, not {now}; give another folder, or delete that one to start again"
        )


def _value(settings: Any, name: str) -> str:
    for part in name.split("."):
        settings = settings.get(part, "(unset)") if isinstance(settings, Mapping) else "(unset)"
    return json.dumps(settings)


# --- files


def _map(path: Path, dtype: Any, shape: tuple[int, ...], mode: Literal["c", "r+"] = "c") -> Tensor:
    """A file as a tensor. Mode "c" (private changes) for reading: torch warns about read-only arrays."""
    if 0 in shape:
        return torch.from_numpy(np.zeros(shape, dtype))
    try:
        return torch.from_numpy(np.memmap(path, dtype, mode, shape=shape))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{path} is missing or too short ({error}); delete {path.parent} to make it again"
        ) from error


def _reserve(path: Path, shape: Sequence[int]) -> None:
    """Claim the space now: writing to a memory map on a full disk would kill the process."""
    size = math.prod(shape) * 2
    try:
        with path.open("wb") as file:
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        shutil.rmtree(path.parent, ignore_errors=True)
        raise TrainingError(
            f"{path.parent.parent} has no room for {size / 1e9:.1f} GB ({error.strerror}); free some"
        ) from error


def _flush(path: Path) -> None:
    """Syncing a file also syncs what was written through its maps."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _draft(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.part")


def _new_draft(directory: Path) -> Path:
    draft = _draft(directory)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    return draft


def _progress(draft: Path, settings: Mapping[str, Any]) -> int:
    if not (draft / META).exists():
        return 0
    found = read_meta(draft)
    same = not differences(json.loads(json.dumps(settings)), found.get("settings", {}))
    return int(found.get("done", 0)) if same else 0


def _publish(draft: Path, directory: Path, settings: Mapping[str, Any], counts: Mapping[str, Any]) -> None:
    _write_json(draft / META, {"settings": dict(settings), **counts})
    draft.rename(directory)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
