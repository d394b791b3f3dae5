"""Everything that a stage's training must remember, in one safetensors file that is replaced whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from textcosm.errors import TrainingError
from textcosm.training.ema import Ema

STATE_FILE = "state.safetensors"


class Meter:
    """Means of named losses since the last report, summed on the device so that no step waits for it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.count = 0
        self.bad_step: Tensor | None = None

    def add(self, losses: dict[str, Tensor], step: int) -> None:
        """Take in the losses of ``step``; the first step with a loss that is not finite is remembered."""
        values = torch.stack([value.detach().float() for value in losses.values()])
        self.names = list(losses)
        self.sums = values if self.sums is None else self.sums.to(values.device) + values
        bad = torch.where(values.isfinite().all(), float("inf"), float(step))
        self.bad_step = bad if self.bad_step is None else torch.minimum(self.bad_step, bad)
        self.count += 1

    def first_bad_step(self) -> int | None:
        """The first step whose losses were not all finite (this waits for the device)."""
        found = float("inf") if self.bad_step is None else self.bad_step.item()
        return None if found == float("inf") else int(found)

    def means(self) -> dict[str, float]:
        """The means so far, and start anew (this waits for the device)."""
        if self.sums is None:
            return {}
        means = dict(zip(self.names, (self.sums / max(1, self.count)).tolist(), strict=True))
        self.sums, self.count = None, 0
        return means


class TrainState:
    """Weights, optimiser moments, average, step and seconds of one stage."""

    def __init__(self, module: nn.Module, optimizers: list[torch.optim.Optimizer], ema: Ema | None):
        self.module = module
        self.optimizers = optimizers
        self.ema = ema
        self.meter = Meter()
        self.step = 0
        self.seconds = 0.0
        self.names = {id(parameter): name for name, parameter in module.named_parameters()}

    def save(self, directory: Path) -> None:
        """Write the state file; on any failure the earlier one stays. Raises :class:`TrainingError` (full disk)."""
        meter = {"names": self.meter.names, "count": self.meter.count}
        header = {"step": self.step, "seconds": self.seconds, "meter": meter}
        write_tensors(directory / STATE_FILE, self._tensors(), header)

    def restore(self, directory: Path) -> bool:
        """Fill everything from the state file, if there is one; False if training starts from nothing."""
        path = directory / STATE_FILE
        if not path.exists():
            return False
        tensors, header = read_tensors(path)
        fill(self.module, _under(tensors, "module/"), path)
        if self.ema is not None:
            for name, average in self.ema.average.items():
                average.copy_(_wanted(tensors, f"ema/{name}", path))
        self._restore_optimizers(tensors)
        self.step, self.seconds = int(header["step"]), float(header["seconds"])
        self.meter.names, self.meter.count = list(header["meter"]["names"]), int(header["meter"]["count"])
        self.meter.sums = tensors.get("meter")
        return True

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"module/{name}": tensor for name, tensor in self.module.state_dict().items()}
        if self.ema is not None:
            tensors |= {f"ema/{name}": tensor for name, tensor in self.ema.average.items()}
        for number, optimizer in enumerate(self.optimizers):
            for parameter, moments in optimizer.state.items():
                prefix = f"optimizer/{number}/{self.names[id(parameter)]}/"
                tensors |= {prefix + key: moment for key, moment in moments.items()}
        if self.meter.sums is not None:
            tensors["meter"] = self.meter.sums
        return tensors

    def _restore_optimizers(self, tensors: dict[str, Tensor]) -> None:
        for number, optimizer in enumerate(self.optimizers):
            for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                prefix = f"optimizer/{number}/{self.names[id(parameter)]}/"
                moments = {key: tensor.to(parameter.device) for key, tensor in _under(tensors, prefix).items()}
                if moments:
                    optimizer.state[parameter] = moments


def load_trained(module: nn.Module, directory: Path) -> dict[str, Any]:
    """Fill ``module`` with what a stage's training reached, averaged weights where there are; returns step and seconds."""
    path = directory / STATE_FILE
    if not path.exists():
        raise TrainingError(
            f"{directory} holds no training state; train that stage first (the same command, without --stage)"
        )
    tensors, header = read_tensors(path)
    fill(module, _under(tensors, "module/") | _under(tensors, "ema/"), path)
    return {"steps": int(header["step"]), "seconds": float(header["seconds"])}


def fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Strictly load ``tensors``; a one-line :class:`TrainingError` if any is missing, left over or of another shape."""
    own = module.state_dict()
    odd = sorted(own.keys() ^ tensors.keys()) or sorted(name for name in own if own[name].shape != tensors[name].shape)
    if odd:
        raise TrainingError(
            f"{path} does not fit the model of these settings (first at {odd[0]!r}); give another folder"
        )
    module.load_state_dict(tensors)


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """One safetensors file with a JSON header, written beside its place and then renamed into it."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(on_cpu, draft, metadata={"textcosm": json.dumps(header)})
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path} was not saved ({error}); the earlier state is intact: free some space and repeat"
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON header of a file of :func:`write_tensors`."""
    from safetensors import safe_open

    with _readable(path), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["textcosm"])  # noqa: SIM118


def read_header(path: Path) -> dict[str, Any]:
    """The JSON header alone, without the tensors."""
    from safetensors import safe_open

    with _readable(path), safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["textcosm"])


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever is wrong with the file is one line that names it."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} is damaged ({error}); delete it to train that stage again") from error


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _wanted(tensors: dict[str, Tensor], name: str, path: Path) -> Tensor:
    if name not in tensors:
        raise TrainingError(f"{path} lacks {name!r}; it was made with other settings: give another folder")
    return tensors[name]
