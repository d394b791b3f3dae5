"""A trained rival: its network, its words and how they are written; to a folder and back."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from textcosm.baselines.autoregressive import Autoregressive
from textcosm.baselines.encoder_decoder import EncoderDecoder
from textcosm.baselines.masked import Masked
from textcosm.baselines.settings import Kind, RivalConfig, RivalSampler, check_kind
from textcosm.baselines.tokens import Sources, Vocabulary
from textcosm.checkpoint import WithoutInitialisation, load_into, load_states, read_index, save_states
from textcosm.config import from_dict
from textcosm.errors import CheckpointError, ConfigError, DataError
from textcosm.latent.forms import FormHead
from textcosm.pipeline import TOKENIZER_FILE, batches, best_device, checked_seeds, checked_sources, find_model
from textcosm.shapes import Forms, Mask, Tokens
from textcosm.tasks import focused
from textcosm.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from textcosm.evaluation.rows import Rows
    from textcosm.evaluation.subject import Subject

VOCABULARY_FILE = "vocabulary.json"
FORM_TOKENS = 200_000
"""Tokens that the common form's weight is fitted on; the counts use them all."""
AnyNetwork = Autoregressive | Masked | EncoderDecoder
NETWORKS = {"autoregressive": Autoregressive, "masked": Masked, "encoder-decoder": EncoderDecoder}


@runtime_checkable
class Network(Protocol):
    """What a kind of rival is: a loss to train by, and texts from seeds; all ids are the vocabulary's.

    The encoder-decoder takes a ``source`` beside these, one for each text.
    """

    kind: Any

    def losses(self, tokens: Tokens, mask: Mask, generator: torch.Generator) -> dict[str, Tensor]:
        """ "loss": nats per token (or a bound on them), of texts padded to the longest; ``mask`` is True at tokens."""
        ...

    def generate(self, seeds: Sequence[int], sampler: RivalSampler) -> Tokens:
        """One text a seed, from the start token on; it depends on its seed alone, up to rounding."""
        ...


def new_network(kind: Kind, config: RivalConfig, vocabulary: Vocabulary) -> AnyNetwork:
    """An untrained network; ConfigError for a kind that is none."""
    check_kind(kind)
    return NETWORKS[kind](config, vocabulary)


def count_forms(
    vocabulary: Vocabulary,
    tokens: Int[Tensor, " tokens"],
    preceding: Int[Tensor, " tokens"],
    forms: Int[Tensor, " tokens"],
) -> FormHead:
    """How tokens are written, told by the token and the one before it: our form head with nothing else to see."""
    head = FormHead(1, len(vocabulary))
    head.count(tokens, preceding, forms)
    part = slice(0, FORM_TOKENS)
    head.fit(torch.zeros(len(tokens[part]), 1), tokens[part], preceding[part], forms[part])
    return head


@dataclass
class Rival:
    """Texts from the same tokens in another way; ``sample`` as :class:`~textcosm.pipeline.TextDiffusion` has it."""

    network: AnyNetwork
    form_head: FormHead
    tokenizer: Tokenizer
    sampler: RivalSampler = field(default_factory=RivalSampler)
    record: dict[str, Any] = field(default_factory=dict)
    """How it was trained: free JSON."""

    def __post_init__(self) -> None:
        for module in (self.network, self.form_head):
            module.eval().requires_grad_(False)

    @property
    def kind(self) -> str:
        return self.network.kind

    @property
    def parameters(self) -> dict[str, int]:
        """How many numbers are in the token embeddings (tied with the output), and in all else."""
        total = sum(parameter.numel() for parameter in self.network.parameters())
        embedding = self.network.embeddings.numel()
        return {"embedding": embedding, "other": total - embedding}

    @property
    def reads_sources(self) -> bool:
        """Whether each text answers a source."""
        return isinstance(self.network, EncoderDecoder)

    # --- texts

    def sample(
        self,
        n: int | None = None,
        *,
        seed: int = 0,
        batch_size: int = 64,
        steps: int | None = None,
        sampler: RivalSampler | None = None,
        source: Sequence[str] | None = None,
    ) -> list[str]:
        """``n`` new texts, or one for each ``source``; text i of a seed is the same in any batch.

        ``steps`` matter to the masked rival only. Raises ConfigError for sources where the rival reads none, DataError
        where it lacks them.
        """
        parts = self.stream(n, seed=seed, batch_size=batch_size, steps=steps, sampler=sampler, source=source)
        return [text for part in parts for text in part]

    def stream(
        self,
        n: int | None = None,
        *,
        seed: int = 0,
        batch_size: int = 64,
        steps: int | None = None,
        sampler: RivalSampler | None = None,
        source: Sequence[str] | None = None,
    ) -> Iterator[list[str]]:
        """Like :meth:`sample`, a batch at a time as each is ready."""
        chosen = sampler or self.sampler
        if steps is not None:
            chosen = dataclasses.replace(chosen, steps=steps)
        network = self.network
        if isinstance(network, EncoderDecoder):
            if source is None:
                raise DataError("the encoder-decoder rival answers sources and there are none: give one for each text")
            sources = checked_sources(source, n)
            parts = batches(list(zip(checked_seeds(seed, len(sources)), sources, strict=True)), batch_size)
            return (self._answers(network, part, chosen) for part in parts)
        if source is not None:
            raise ConfigError(f"the {self.kind} rival reads no source: leave it out, or train encoder-decoder")
        if chosen.beams:
            raise ConfigError(f"beams is {chosen.beams}, but the {self.kind} rival draws every token: leave beams at 0")
        seeds = batches(checked_seeds(seed, 1 if n is None else n), batch_size)
        return (self.write(network.generate(part, chosen)) for part in seeds)

    def _answers(self, network: EncoderDecoder, pairs: list[tuple[int, str]], sampler: RivalSampler) -> list[str]:
        """A text for each (seed, source)."""
        seeds, texts = zip(*pairs, strict=True)
        config, device = network.config, network.embeddings.device
        batch = self.tokenizer.tokenize([focused(text, config.context_words) for text in texts], config.source_length)
        sources = Sources(network.vocabulary.shrink(batch.tokens).to(device), batch.mask.to(device))
        return self.write(network.generate(seeds, sampler, sources))

    def write(self, tokens: Tokens) -> list[str]:
        """The texts of the vocabulary's ids, each token in its likeliest form."""
        return self.tokenizer.detokenize(self.network.vocabulary.widen(tokens), self.forms(tokens))

    def forms(self, tokens: Tokens) -> Forms:
        """The likeliest form of each token (given the one before), 0 at the start."""
        return self.form_head.scores(torch.zeros(*tokens.shape, 1, device=tokens.device), tokens).argmax(-1)

    def to(self, device: str | torch.device) -> "Rival":
        self.network.to(device)
        self.form_head.to(device)
        return self

    # --- load and save

    def save(self, directory: str | Path, precision: str = "float32") -> None:
        """Write the whole rival, whole or not at all; precision float32, bfloat16 or int8."""
        states = {"network": self.network.state_dict(), "form_head": self.form_head.state_dict()}
        metadata = {
            "kind": self.kind,
            "config": asdict(self.network.config),
            "sampler": asdict(self.sampler),
            "parameters": self.parameters,
            "record": self.record,
        }
        files = {TOKENIZER_FILE: self.tokenizer.to_json(), VOCABULARY_FILE: self.network.vocabulary.to_json()}
        save_states(directory, states, metadata, precision, files)


def open_rival(path: str | Path, device: str | torch.device | None = None) -> Rival:
    """The rival in a folder of ``save()`` or of a training run (its ``model/``). Raises CheckpointError."""
    folder = find_model(path)
    stored = load_states(folder)
    meta = stored.metadata
    if meta.get("kind") not in NETWORKS:
        raise CheckpointError(f"{folder} is no rival but a {meta.get('kind', 'text diffusion')} model; open it as such")
    try:
        vocabulary = Vocabulary.from_json(stored.files[VOCABULARY_FILE])
        tokenizer = Tokenizer.from_json(stored.files[TOKENIZER_FILE])
        sampler = from_dict(RivalSampler, meta["sampler"])
        with WithoutInitialisation():
            network = new_network(meta["kind"], from_dict(RivalConfig, meta["config"]), vocabulary)
        head = FormHead(1, len(vocabulary))
        load_into(network, stored.states["network"], f"{folder} (network)")
        load_into(head, stored.states["form_head"], f"{folder} (form head)")
    except KeyError as error:
        raise CheckpointError(f"{folder} is not a whole rival ({error} is missing); copy or train it again") from error
    rival = Rival(network, head, tokenizer, sampler, meta.get("record", {}))
    return rival.to(best_device() if device is None else device)


def open_subject(
    path: str | Path,
    *,
    name: str | None = None,
    steps: int | None = None,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    references: "Rows | None" = None,
) -> "Subject | None":
    """What ``textcosm evaluate`` measures, where ``path`` (a folder or a run) holds a rival; None where it does not.

    A rival that reads sources answers those of the ``references``: DataError where there are none.
    """
    if not is_rival(path):
        return None
    from textcosm.evaluation.subject import Subject, answering, fingerprint

    rival = open_rival(path, device)
    sampler = rival.sampler if steps is None else dataclasses.replace(rival.sampler, steps=steps)
    manifest = {
        "name": name or Path(path).expanduser().resolve().name,
        "kind": rival.kind,
        "sha256": fingerprint({"network": rival.network, "form_head": rival.form_head}),
        "parameters": rival.parameters,
        "sampler": asdict(sampler),
        "ema": rival.record.get("recipe", {}).get("training", {}).get("ema"),
    }

    if rival.reads_sources:
        if references is None or not references.has_targets:
            raise DataError(f"{manifest['name']} answers sources and is given none: evaluate it against pairs (--task NAME)")

        def write(source: list[str], seed: int) -> Iterator[list[str]]:
            return rival.stream(source=source, seed=seed, batch_size=batch_size, sampler=sampler)

        return answering(manifest["name"], manifest, references, write)

    def texts(n: int, seed: int) -> Iterator[list[str]]:
        return rival.stream(n, seed=seed, batch_size=batch_size, sampler=sampler)

    return Subject(manifest["name"], manifest, texts)


def is_rival(path: str | Path) -> bool:
    """Whether this is the folder of a rival, or of the training run of one."""
    try:
        folder = find_model(path)
    except CheckpointError:
        return False
    return read_index(folder)["metadata"].get("kind") in NETWORKS
