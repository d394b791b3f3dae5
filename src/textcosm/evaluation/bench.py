"""How fast something writes: timings in rounds over all that is compared, and what it takes from a fresh process on."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

import torch

from textcosm.errors import ConfigError

Write = Callable[[int, int], Sequence[str]]
"""``(n, seed)`` -> n texts."""


@dataclass(frozen=True)
class Written:
    """One batch: the seconds that it took, and its texts."""

    seconds: float
    texts: Sequence[str]


def in_rounds(
    writers: Mapping[str, Write],
    batches: Sequence[int],
    rounds: int,
    seed: int = 0,
    tell: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict[str, dict[int, list[Written]]]:
    """Let each writer write each batch once a round, one after the other: a busy minute of the machine hurts all alike.

    Before the first round each writes one text that does not count: the first call allocates and compiles. Round k
    has the seed ``seed + 1 + k``, the same for all. Raises ConfigError for no rounds and for batches below 1.
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; time at least 1, or 3 for a median")
    if not batches or min(batches) < 1:
        raise ConfigError(f"the batches are {list(batches)}; give one or more numbers from 1 up, such as 1 64")
    for write in writers.values():
        write(1, seed)
    taken: dict[str, dict[int, list[Written]]] = {name: {size: [] for size in batches} for name in writers}
    total, done = rounds * len(batches) * len(writers), 0
    for number in range(rounds):
        for size in batches:
            for name, write in writers.items():
                start = time.perf_counter()
                texts = write(size, seed + 1 + number)
                taken[name][size].append(Written(time.perf_counter() - start, texts))
                done += 1
                tell("timing", done, total)
    return taken


def seconds_a_text(written: Sequence[Written]) -> float:
    """The median over these batches."""
    return statistics.median(one.seconds / len(one.texts) for one in written)


@dataclass(frozen=True)
class Fresh:
    """What a fresh process took: seconds from its start to its first text, and memory in MB at most."""

    seconds: float
    resident: float
    """Of the whole process, Python and torch included."""
    cuda: float | None
    """Allocated by torch on the GPU; None where there is none."""

    @property
    def peak(self) -> float:
        """Of the device that did the work."""
        return self.cuda or self.resident


def in_fresh_process(work: Callable[..., Iterator[object]], *settings: str) -> Fresh:
    """Run ``work(*settings)``, a function of a module that a fresh Python can import, in a process of its own.

    It yields once when its first text is there; what it does after that counts for the memory alone. Raises ConfigError
    with the last line of what it said where it fails.
    """
    code = "import sys; from textcosm.evaluation.bench import report; report(*sys.argv[1:])"
    given = [repr(time.time()), work.__module__, work.__qualname__, *settings]
    result = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise ConfigError(f"{' '.join(settings)} failed in a fresh process ({lines[-1]}): see that it fits into memory")
    return Fresh(**json.loads(result.stdout.splitlines()[-1]))


def report(began: str, module: str, function: str, *settings: str) -> None:
    """In the fresh process: do the work and print its :class:`Fresh` as JSON."""
    work = getattr(import_module(module), function)(*settings)
    next(work)
    seconds = time.time() - float(began)
    for _ in work:
        pass
    cuda = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None
    print(json.dumps(asdict(Fresh(seconds, peak_resident(), cuda))))


def peak_resident() -> float:
    """Most resident memory of this process so far, in MB.

    Linux: VmHWM, which begins anew at exec; getrusage's maximum would hold that of the parent as well.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def machine(device: torch.device) -> str:
    """What did the work, for a line under a table."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    of = f" of {os.cpu_count()}" if os.cpu_count() else ""
    return f"{device.type}, {threads}{of} threads"
