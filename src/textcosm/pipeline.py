"""The corridor: the one place that wires text, latents and diffusion together, for use and not for training."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import torch
from torch import Tensor, nn

from textcosm.checkpoint import Checkpoint, WithoutInitialisation, load_into, load_states, save_states
from textcosm.config import Config
from textcosm.control.best import TIME, check_best, denoising_error, least
from textcosm.control.decoder import Decoder, Ruling
from textcosm.control.fusion import CANDIDATES, fused
from textcosm.control.infill import Filled, Known, Template, blank_lengths, filled, lay_out
from textcosm.control.length import Ending, Length, lengths_of
from textcosm.control.mbr import chooser
from textcosm.control.rewrite import EARLIEST, Accept, rising, time_of
from textcosm.diffusion.denoiser import Denoiser, Memory, new_denoiser
from textcosm.diffusion.guidance import Guide
from textcosm.diffusion.process import Point
from textcosm.diffusion.sampling import SamplerConfig, later_seeds, seeds_of, trajectory
from textcosm.diffusion.solvers import Solver
from textcosm.errors import BackboneError, CheckpointError, ConfigError, DataError
from textcosm.latent.autoencoder import Autoencoder, Words
from textcosm.latent.normaliser import Normaliser, new_normaliser
from textcosm.nn.precision import Precision
from textcosm.shapes import Activations, Latents, Mask, Times, Tokens
from textcosm.tasks import focused
from textcosm.text.backbone import Backbone, open_backbone
from textcosm.text.ngrams import NGrams
from textcosm.text.tokenizer import Tokenizer

T = TypeVar("T")

CHECKPOINTS = Path(__file__).parent / "checkpoints"
TOKENIZER_FILE = "tokenizer.json"
DECODE_AT_ONCE = 16
"""Texts per call of the token head: logits are length x vocabulary floats each (10 MB at 80 x 30,522)."""


@dataclass(frozen=True)
class Snapshot:
    """Where sampling stands: ``texts`` decoded from the current guess of the clean latents."""

    step: int
    steps: int
    time: float
    """Diffusion time, from 1 (noise) down to the sampler's end time."""
    noise: float
    """The noise level sigma(time), from 1 down to near 0."""
    texts: list[str]


@dataclass(frozen=True)
class Reconstruction:
    """A text through encoder, compressor and decompressor; accuracy over its own tokens, from 0 to 1."""

    text: str
    reconstruction: str
    token_accuracy: float


class Sampling(TypedDict, total=False):
    """What ``sample``, ``stream`` and ``trace`` take by name, all of it optional."""

    seed: int
    """Default 0. Text i depends on it and on i, not on how many texts there are."""
    steps: int | None
    """From noise to text; like solver and guidance, instead of the sampler's."""
    solver: str | Solver | None
    guidance: float | None
    """Weight of the source: 1 is none, above 1 exaggerates it (see SamplerConfig)."""
    refine: int | None
    """How often a text is sent back through the encoder, a little noise and one more guess (see SamplerConfig)."""
    lm_weight: float | None
    """How much its words owe to what follows what in the training texts (see SamplerConfig); 0 is the decoder alone."""
    sampler: SamplerConfig | None
    """Default: the model's own."""
    batch_size: int
    """Texts at a time, default 64; it changes the speed and not the texts."""
    source: Sequence[str] | None
    """Given texts, one for each text to write; for models with a source encoder, and needs the frozen encoder."""
    mbr: int
    """Best of so many candidates, each from its own seed, by minimum Bayes risk (control/mbr.py); 1 chooses nothing."""
    best: int
    """Best of so many by the model's own denoising error (control/best.py), which needs the frozen encoder."""
    length: Length | None
    """Tokens of a text without its start and end: a number, one for each text, or "natural" (control/length.py)."""
    guides: Sequence[Guide]
    """Each moves the guess of the clean latents at every step (see diffusion/guidance.py)."""
    start: Latents | None
    """Clean latents ``(n, N, width)`` to begin from, noised to ``start_time`` (1 is pure noise), instead of noise."""
    start_time: float


@dataclass
class TextDiffusion:
    """A trained model: text <-> latents by ``encode`` and ``decode``, noise -> text by ``sample``.

    Latents here are always normalised (about zero mean and unit variance per slot and feature), ``(batch, N, width)``.
    """

    config: Config
    autoencoder: Autoencoder
    normaliser: Normaliser
    denoiser: Denoiser
    tokenizer: Tokenizer
    backbone_fingerprint: str
    record: dict[str, Any] = field(default_factory=dict)
    """How it was trained and what was measured: free JSON, kept in the checkpoint."""
    ngrams: NGrams | None = None
    """What follows what in the training texts; None in models from before there was any, which then have no ``lm_weight``."""
    backbone: Backbone | None = None
    """The frozen encoder, opened at the first ``encode``; sampling needs it only to read sources."""
    precision: Precision = "float32"
    """Of the denoiser's matrices; see :meth:`use_precision`."""
    compiled: bool = False
    """Whether a pass of the denoiser is a CUDA graph; see :meth:`use_compiled`."""

    def __post_init__(self) -> None:
        for module in self._modules.values():
            module.eval().requires_grad_(False)

    # --- load and save

    @classmethod
    def load(cls, model: str | Path = "stories-16", device: str | torch.device | None = None) -> "TextDiffusion":
        """Open a shipped model by name, or a folder of ``save()`` or of a training run. Raises CheckpointError."""
        folder = find_model(model)
        loaded = cls._from_checkpoint(load_states(folder), str(folder))
        return loaded.to(best_device() if device is None else device)

    @classmethod
    def _from_checkpoint(cls, checkpoint: Checkpoint, where: str) -> "TextDiffusion":
        meta = checkpoint.metadata
        if "kind" in meta:
            raise CheckpointError(
                f"{where} is no text diffusion model but a rival ({meta['kind']}); open it with textcosm.baselines.open_rival"
            )
        try:
            config = Config.from_dict(meta["config"])
            width, vocabulary = int(meta["backbone"]["width"]), int(meta["backbone"]["vocab_size"])
            fingerprint = str(meta["backbone"]["fingerprint"])
            states = [checkpoint.states[name] for name in ("autoencoder", "normaliser", "denoiser")]
            tokenizer = Tokenizer.from_json(checkpoint.files[TOKENIZER_FILE])
            ngrams = NGrams(checkpoint.states["ngrams"]) if "ngrams" in checkpoint.states else None
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{where} is not a whole model ({error}); save it again with this textcosm"
            ) from error
        with WithoutInitialisation():
            autoencoder = Autoencoder(config.autoencoder, width, vocabulary)
            normaliser = new_normaliser(autoencoder, config.normaliser)
            denoiser = new_denoiser(config.denoiser, config.schedule, normaliser.shape, width)
        modules = (autoencoder, normaliser, denoiser)
        for module, state in zip(modules, states, strict=True):
            load_into(module, state, f"{where} ({type(module).__name__.lower()})")
        return cls(config, *modules, tokenizer, fingerprint, meta.get("record", {}), ngrams)

    def save(self, directory: str | Path, precision: str = "float32") -> None:
        """Write the whole model, tokenizer included, whole or not at all; precision float32, bfloat16 or int8.

        Raises ConfigError where the model computes in a lower precision: its weights are then no longer whole.
        """
        if self.precision != "float32":
            raise ConfigError(f"this model computes in {self.precision} and cannot be saved: load it anew and save that")
        states = {name: module.state_dict() for name, module in self._modules.items()}
        backbone = {
            "fingerprint": self.backbone_fingerprint,
            "width": self.autoencoder.token_head.in_features,
            "vocab_size": self.autoencoder.token_head.out_features,
        }
        metadata = {"config": self.config.to_dict(), "backbone": backbone, "record": self.record}
        save_states(directory, states, metadata, precision, {TOKENIZER_FILE: self.tokenizer.to_json()})

    @property
    def _modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds, by name."""
        parts = {"autoencoder": self.autoencoder, "normaliser": self.normaliser, "denoiser": self.denoiser}
        return parts if self.ngrams is None else {**parts, "ngrams": self.ngrams}

    # --- text <-> latents

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> Latents:
        """Normalised latents of texts; a text longer than ``max_length`` tokens is cut. Needs the encoder."""
        return torch.cat([self._encode(part)[0] for part in batches(_checked_texts(texts), batch_size)])

    @torch.no_grad()
    def decode(self, latents: Latents) -> list[str]:
        """The texts of normalised latents ``(batch, N, width)``: the likeliest token at every position at once."""
        tokens, forms = self._decode(latents)
        return self.tokenizer.detokenize(tokens, forms)

    @torch.no_grad()
    def reconstruct(self, texts: Sequence[str], batch_size: int = 64) -> list[Reconstruction]:
        """Each text, encoded and decoded again, with the share of its tokens that came back."""
        found: list[Reconstruction] = []
        for part in batches(_checked_texts(texts), batch_size):
            latents, wanted, mask = self._encode(part)
            tokens, forms = self._decode(latents)
            right = (tokens[:, : wanted.shape[1]] == wanted) & mask
            accuracy = (right.sum(1) / mask.sum(1)).tolist()
            decoded = self.tokenizer.detokenize(tokens, forms)
            found += [Reconstruction(*row) for row in zip(part, decoded, accuracy, strict=True)]
        return found

    def interpolate(self, a: str, b: str, *further: str, steps: int = 7) -> list[str]:
        """A path of texts from ``a`` to ``b``, and on to each of the ``further`` ones: ``steps`` texts from one to the
        next, both included, along the arc between their latents; a text in between stands once.

        The arc, not the chord: normalised latents lie near a sphere, and the middle of a chord is too short.
        """
        if steps < 2:
            raise ConfigError(f"steps is {steps}; an interpolation has at least its 2 ends")
        stops = self.encode([a, b, *further])
        path = [slerp(*pair, k / (steps - 1)) for pair in pairwise(stops) for k in range(steps - 1)]
        return self.decode(torch.stack([*path, stops[-1]]))

    def _encode(self, texts: list[str]) -> tuple[Latents, Tensor, Tensor]:
        """Normalised latents, the tokens that they hold, and their mask."""
        backbone = self._open_backbone()
        batch = backbone.tokenize(texts, self.config.autoencoder.max_length)
        tokens, mask = batch.tokens.to(self.device), batch.mask.to(self.device)
        return self._compress(backbone.encode(tokens, mask), mask), tokens, mask

    def _compress(self, activations: Activations, mask: Mask) -> Latents:
        hidden = self.autoencoder.standardise(activations)
        return self.normaliser.normalise(self.autoencoder.compress(hidden, mask))

    def _decode(
        self, latents: Tensor, rulings: Sequence[Ruling] = (), among: Words | None = None, lm_weight: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Token ids and written forms, each ``(batch, max_length)``: ``among`` a part of the vocabulary, or of all of it.

        Rulings may change the tokens, in their order; they see all of it. Then a ``lm_weight`` above 0 has the words agree.
        """
        expected = self.normaliser.shape
        if latents.ndim != 3 or tuple(latents.shape[1:]) != expected:
            raise ConfigError(
                f"latents are {tuple(latents.shape)}; this model decodes (batch, {expected[0]}, {expected[1]})"
            )
        tokens, forms = [], []
        for rows in row_slices(len(latents), DECODE_AT_ONCE):
            part = latents[rows].to(self.device, torch.float32)
            hidden = self.autoencoder.decompress(self.normaliser.denormalise(part))
            tokens.append(self._choose(hidden, [ruling.select(rows) for ruling in rulings], among, lm_weight))
            forms.append(self.autoencoder.form_logits(hidden, tokens[-1]).argmax(-1))
        return torch.cat(tokens), torch.cat(forms)

    def _choose(
        self, hidden: Activations, rulings: Sequence[Ruling], among: Words | None, lm_weight: float
    ) -> Tokens:
        """The tokens of a few texts."""
        ngrams = self.ngrams if lm_weight else None
        count = 1 if ngrams is None else CANDIDATES
        if among is not None and not rulings:
            scores, candidates = among.likeliest(hidden, self.tokenizer.end_id, count)
            tokens = candidates[..., 0]
        else:
            logits = self.autoencoder.token_logits(hidden)
            tokens = logits.argmax(-1)
            for ruling in rulings:
                tokens = ruling.choose(logits, tokens)
            scores, candidates = logits.topk(min(count, logits.shape[-1]), -1)
        if ngrams is None:
            return tokens
        held = torch.zeros_like(tokens, dtype=torch.bool)
        for ruling in rulings:
            held |= ruling.held(tokens)
        return fused(ngrams, lm_weight, scores, candidates, tokens, held, self.tokenizer.special)

    # --- noise -> text

    def sample(self, n: int | None = None, **options: Unpack[Sampling]) -> list[str]:
        """``n`` new texts (default 1, or one for each source). Text i of a seed is the same in any batch."""
        return [text for part in self.stream(n, **options) for text in part]

    def stream(self, n: int | None = None, **options: Unpack[Sampling]) -> Iterator[list[str]]:
        """Like :meth:`sample`, a batch at a time as each is ready."""
        mbr, best = options.get("mbr", 1), options.get("best", 1)
        check_best(best, mbr)
        choose = chooser(mbr)
        drafts = [self._seeds(n, options, candidate) for candidate in range(max(mbr, best))]
        options = self._with_length(options, drafts[0])
        for rows in row_slices(len(drafts[0]), options.get("batch_size", 64)):
            walk = self._walk(rows, options)
            texts = [self._write(_end(walk(seeds[rows])), rows, options) for seeds in drafts]
            yield [choose(several) for several in zip(*texts, strict=True)] if best == 1 else self._best(texts, rows, options)

    def trace(self, n: int | None = None, **options: Unpack[Sampling]) -> Iterator[Snapshot]:
        """The texts of :meth:`sample` as they emerge, decoded after every step; the last snapshot is the result.

        All texts are one batch, whatever ``batch_size`` says; of one candidate each: ConfigError for ``mbr`` or ``best``
        above 1.
        """
        _without_choice(options, "chooses among texts that are done: leave it out to see one text emerge")
        seeds, sampler = self._seeds(n, options), self.sampler(options)
        total = sampler.steps + sampler.refinements
        rows, options = slice(0, len(seeds)), self._with_length(options, seeds)
        points = self._walk(rows, options)(seeds)
        for step, point in enumerate(points, start=1):
            noise = self.config.schedule.sigma(point.time).item()
            yield Snapshot(step, total, point.time, noise, self._write(point.clean, rows, options))

    def _seeds(self, n: int | None, options: Sampling, candidate: int = 0) -> list[int]:
        """A seed for each text that is asked for, by number or by its source."""
        check_options(options)
        source = options.get("source")
        if source is not None:
            if not self.reads_sources:
                raise ConfigError("this model reads no source: leave it out, or train one that does (train --task NAME)")
            n = len(checked_sources(source, n))
        return checked_seeds(options.get("seed", 0), 1 if n is None else n, candidate)

    def sampler(self, options: Sampling) -> SamplerConfig:
        """The model's own sampler, or the one given, with what else was given put in."""
        own = options.get("sampler") or self.config.sampler
        guidance, solver = options.get("guidance"), options.get("solver")
        if guidance is None and options.get("source") is None:
            guidance = 1.0  # a conditional model's own guidance has nothing to weigh where there is no source
        given = {
            "steps": options.get("steps"),
            "solver": solver if isinstance(solver, str) else None,
            "guidance": guidance,
            "refinements": options.get("refine"),
            "lm_weight": options.get("lm_weight"),
        }
        found = dataclasses.replace(own, **{name: value for name, value in given.items() if value is not None})
        if found.lm_weight and self.ngrams is None:
            raise ConfigError(
                f"lm_weight is {found.lm_weight}, but this model holds no n-grams of its training texts: leave it out, or "
                "export the model again (train --stage export)"
            )
        return found

    def _walk(self, rows: slice, options: Sampling) -> Callable[[list[int]], Iterator[Point]]:
        """For some of the texts, whose sources are read once: their seeds -> the points of their way from noise."""
        source, start, solver = options.get("source"), options.get("start"), options.get("solver")
        sampler = self.sampler(options)
        way = partial(
            trajectory,
            self._denoise,
            self.config.schedule,
            shape=self.normaliser.shape,
            device=self.device,
            memory=None if source is None else self._read_sources(list(source[rows])),
            solver=None if isinstance(solver, str) else solver,
            guides=[guide.select(rows) for guide in options.get("guides", ())],
        )

        def walk(seeds: list[int]) -> Iterator[Point]:
            begin = None if start is None else start[rows]
            for point in way(config=sampler, seeds=seeds, start=begin, start_time=options.get("start_time", 1.0)):
                yield point
            for number in range(sampler.refinements):
                again = self.encode(self._write(point.clean, rows, options))
                seen = {"seeds": later_seeds(seeds, number), "start": again, "start_time": sampler.refine_time}
                for point in way(config=sampler.refinement, **seen):
                    yield point

        return walk

    def _denoise(self, noisy: Latents, time: Times, last: Latents | None = None, memory: Memory | None = None) -> Latents:
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            clean = self.denoiser(noisy, time, last, memory).to(noisy.dtype)
        return clean.clone() if self.compiled else clean  # a graph writes over what it gave before

    @torch.no_grad()
    def _write(self, latents: Latents, rows: slice, options: Sampling) -> list[str]:
        """The texts of some rows, as the guides that rule over tokens, and the neighbours of each, have them.

        A text from noise is written in the tokens that the training texts held: the token head, the dearest part of the
        way back, then costs less than half. One that began as a given text may keep any token.
        """
        among = self._words if options.get("start") is None else None
        weight = self.sampler(options).lm_weight
        return self.tokenizer.detokenize(*self._decode(latents, self._rulings(rows, options), among, weight))

    # --- best of k

    @torch.no_grad()
    def denoising_error(
        self, texts: Sequence[str], source: Sequence[str] | None = None, batch_size: int = 64
    ) -> list[float]:
        """How little the model knows of each text, from 0 to about 1: the share of its latents that a guess from noise misses.

        Texts that it finds likely have less (control/best.py), so that candidates of any origin can be ranked; a blank text
        has infinity. With a ``source`` for each, the guess reads it. Needs the frozen encoder.
        """
        given, found = _checked_texts(texts), []
        for rows in row_slices(len(given), batch_size):
            memory = None if source is None else self._read_sources(list(source[rows]))
            found += self._denoising_error(given[rows], memory)
        return found

    def _denoising_error(self, texts: list[str], memory: Memory | None) -> list[float]:
        """The same of a batch, whose sources are read."""
        denoise = partial(self._denoise, last=None, memory=memory)
        time = max(TIME, self.config.diffusion_objective.min_time)
        errors = denoising_error(denoise, self.config.schedule, self.encode(texts), time).tolist()
        return [error if text.strip() else float("inf") for text, error in zip(texts, errors, strict=True)]

    @torch.no_grad()
    def _best(self, candidates: Sequence[list[str]], rows: slice, options: Sampling) -> list[str]:
        """Of the candidates for each of these rows, that with the least error; their sources are read once for all."""
        source = options.get("source")
        memory = None if source is None else self._read_sources(list(source[rows]))
        return least(candidates, [self._denoising_error(texts, memory) for texts in candidates])

    # --- a hand on the wheel

    def rewrite(
        self,
        texts: Sequence[str],
        strength: float | Sequence[float],
        accept: Accept | None = None,
        **options: Unpack[Sampling],
    ) -> list[str]:
        """The texts, noised part of the way and denoised: ``strength`` 0 reconstructs them, 1 forgets them.

        Several strengths, rising, are tried in turn: a text stays as the first one leaves it that ``accept`` takes (such
        as ``Probe.accept``), else as the last one does.

        The noise of a text is that of its place and the seed, the same at every strength. Needs the encoder; raises
        ConfigError for a strength outside [0, 1]. Below the earliest time at which the network's guess is worth more
        than what it reads (control/rewrite.py), the latents go that part of the way to the guess at that time. N-grams count
        for as much of their weight as is noised of a text. Give the
        texts as ``source`` as well to a model that answers sources, and it answers them from where they stand.
        """
        _without_choice(options, "chooses among texts from noise: leave it out where texts are rewritten")
        if accept is not None and options.get("guides"):
            raise ConfigError("guides are of all texts at once: leave them out where only some are tried again")
        given, strengths = _checked_texts(texts), rising(strength, accept)
        seeds = self._seeds(len(given), options)
        written = self._rewrite(given, strengths[0], seeds, options)
        left = list(range(len(given)))
        for further in strengths[1:]:
            taken = accept([written[i] for i in left]) if accept else ()
            left = [i for i, will_do in zip(left, taken, strict=True) if not will_do]
            if not left:
                break
            some = {name: _of_rows(options.get(name), left) for name in ("source", "length")}
            again = self._rewrite([given[i] for i in left], further, [seeds[i] for i in left], {**options, **some})  # type: ignore[typeddict-item]
            for i, text in zip(left, again, strict=True):
                written[i] = text
        return written

    def _rewrite(self, texts: list[str], strength: float, seeds: list[int], options: Sampling) -> list[str]:
        """All of them at one strength."""
        time = time_of(strength)
        latents = self.encode(texts, options.get("batch_size", 64))
        if time == 0:
            return self.decode(latents)
        earliest = max(EARLIEST, self.config.diffusion_objective.min_time)
        options = {**options, "start": latents, "start_time": max(time, earliest)}
        options["lm_weight"] = self.sampler(options).lm_weight * time  # what is given of a text needs no correction
        options, written = self._with_length(options, seeds), []
        for rows, found in self._ends(seeds, options):
            way = torch.lerp(latents[rows], found, min(1.0, time / earliest))
            written += self._write(way, rows, options)
        return written

    def infill(self, texts: str | Sequence[str], n: int = 1, **options: Unpack[Sampling]) -> list[Filled]:
        """``n`` times each text with its blanks (``___``, three underscores or more) filled.

        ``length`` counts the tokens of every blank here, or of those of each text; without it the text as a whole gets the length of a text that the
        model learned from. Raises DataError for no blank, or blanks alone; ConfigError for a text that is too long.
        """
        given = [texts] if isinstance(texts, str) else _checked_texts(texts)
        templates = [Template.parse(text) for text in given for _ in range(n)]
        return self._fill(templates, options.get("length"), {**options, "length": None})

    def complete(self, texts: str | Sequence[str], n: int = 1, **options: Unpack[Sampling]) -> list[Filled]:
        """``n`` texts that begin with each of these; ``length`` counts all tokens of a text, the given ones too."""
        given = [texts] if isinstance(texts, str) else _checked_texts(texts)
        return self._fill([Template.beginning(text) for text in given for _ in range(n)], None, options)

    @torch.no_grad()
    def _fill(self, templates: list[Template], blank: Length | None, options: Sampling) -> list[Filled]:
        """Each template, its blanks written by the model and its given parts verbatim."""
        if options.get("mbr", 1) != 1:
            raise ConfigError("mbr chooses among whole texts: leave it out where parts are given")
        best = options.get("best", 1)
        check_best(best)
        drafts = [self._filled(templates, blank, options, self._seeds(len(templates), options, k)) for k in range(best)]
        if best == 1:
            return drafts[0]
        return least(drafts, [self.denoising_error([one.text for one in draft], options.get("source")) for draft in drafts])

    def _filled(self, templates: list[Template], blank: Length | None, options: Sampling, seeds: list[int]) -> list[Filled]:
        """The same from these seeds."""
        longest = self.config.autoencoder.max_length
        layouts = [
            lay_out(template, self.tokenizer, longest, seed, self.record, length)
            for template, seed, length in zip(templates, seeds, blank_lengths(blank, len(templates)), strict=True)
        ]
        known = Known.of(layouts, self._decoder)
        options = self._with_length({**options, "guides": [*options.get("guides", ()), known]}, seeds, known.count)
        texts: list[Filled] = []
        for rows, latents in self._ends(seeds, options):
            latents = known.select(rows).settle(latents)
            kept = known.select(rows).kept(self._decode(latents)[0])
            written = self._decode(latents, self._rulings(rows, options), lm_weight=self.sampler(options).lm_weight)
            texts += filled(templates[rows], layouts[rows], *written, kept, self.tokenizer)
        return texts

    def _ends(self, seeds: list[int], options: Sampling) -> Iterator[tuple[slice, Latents]]:
        """Where the walks of the texts end, a batch at a time."""
        for rows in row_slices(len(seeds), options.get("batch_size", 64)):
            yield rows, _end(self._walk(rows, options)(seeds[rows]))

    def _with_length(self, options: Sampling, seeds: list[int], given: int = 0) -> Sampling:
        """The options with a guide to the wanted length, if one is wanted; ``given`` tokens of a text stand already."""
        length = options.get("length")
        if length is None:
            return options
        lengths = lengths_of(length, seeds, self.config.autoencoder.max_length, self.record)
        if given >= int(lengths.min()):
            raise ConfigError(f"length is {int(lengths.min())}, and {given} tokens are given already: ask for more than that")
        return {**options, "guides": [*options.get("guides", ()), Ending(self._decoder, lengths)]}

    def _rulings(self, rows: slice, options: Sampling) -> list[Ruling]:
        """The guides that have a say in the tokens of these rows."""
        guides = (guide.select(rows) for guide in options.get("guides", ()))
        return [guide for guide in guides if isinstance(guide, Ruling)]

    @property
    def _decoder(self) -> Decoder:
        return Decoder(self.autoencoder, self.normaliser, self.tokenizer, self._words)

    # --- sources

    @property
    def reads_sources(self) -> bool:
        """Whether the model can write in answer to a given text."""
        return self.config.denoiser.source_depth > 0

    def cut_sources(self, source: Sequence[str]) -> int:
        """How many of these are longer than the model reads, ``config.source.max_length`` tokens, and are cut there."""
        return self.tokenizer.tokenize(self._focused(checked_sources(source)), self.config.source.max_length).cut

    def _focused(self, source: Sequence[str]) -> list[str]:
        return [focused(text, self.config.source.context_words) for text in source]

    @torch.no_grad()
    def _read_sources(self, source: list[str]) -> Memory:
        """Source texts as the denoiser reads them, once for all steps."""
        backbone, source = self._open_backbone(), self._focused(source)
        batch = backbone.tokenize(source, self.config.source.max_length)
        tokens, mask = batch.tokens.to(self.device), batch.mask.to(self.device)
        activations = backbone.encode(tokens, mask)
        latents = None
        if self.config.denoiser.source_latents:  # of what the autoencoder has positions for
            whole = tokens.shape[1] <= self.config.autoencoder.max_length
            latents = self._compress(activations, mask) if whole else self.encode(source)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            return self.denoiser.encode_source(activations, mask, latents)

    # --- the machine and the encoder

    @cached_property
    def _words(self) -> Words | None:
        """The tokens that new texts are written in."""
        special = self.tokenizer.special
        return self.autoencoder.learned_words((special.start, special.end, special.pad))

    @property
    def device(self) -> torch.device:
        return self.normaliser.mean.device

    def to(self, device: str | torch.device) -> "TextDiffusion":
        """Move the model; a backbone that is already open moves at its next use."""
        for module in self._modules.values():
            module.to(device)
        self.backbone = None
        self.__dict__.pop("_words", None)
        return self

    def use_precision(self, precision: Precision) -> str | None:
        """Denoise with cheaper matrices from now on: float16 or int8 on a CPU, bfloat16 where the hardware has it.

        Returns a note where this machine cannot (and stays in float32). Decoding keeps float32. Load the model anew to
        change the precision again, to move it to another device or to save it. Raises ConfigError for one unknown.
        """
        if self.precision not in ("float32", precision):
            raise ConfigError(f"this model computes in {self.precision} already: load it anew for {precision}")
        if precision == self.precision:
            return None
        note = self.denoiser.lower_precision(precision)
        if note is None:
            self.precision = precision
        return note

    def use_compiled(self) -> str | None:
        """Make a pass of the denoiser one CUDA graph from now on (torch.compile): at small batches its many launches cost
        more than its arithmetic. The first pass of each new batch size then takes as long as compiling does.

        Returns a note where this machine cannot, and passes stay as they are: on CPUs compiled passes took as long as plain
        ones (docs/log.md).
        """
        if self.device.type != "cuda":
            return f"compiled passes gain nothing on this {self.device.type}: plain ones are used"
        self.denoiser.compile(mode="reduce-overhead", dynamic=False)
        self.compiled = True
        try:
            self.sample(steps=2, refine=0)
        except Exception as error:  # the compiler's own, of many kinds
            self.denoiser._compiled_call_impl = None
            self.compiled = False
            return f"torch.compile fails on this machine ({type(error).__name__}): plain passes are used"
        return None

    @property
    def scored_tokens(self) -> int:
        """How many tokens are scored for each position of a new text: those that the training texts held."""
        return self.autoencoder.token_head.out_features if self._words is None else len(self._words.tokens)

    def use_backbone(self, backbone: Backbone) -> "TextDiffusion":
        """Encode with this encoder; it must be the one that the model was trained with, else BackboneError."""
        if backbone.fingerprint != self.backbone_fingerprint:
            raise BackboneError(
                f"the encoder {backbone.name} ({backbone.fingerprint}) is not the one of this model, "
                f"{self.config.backbone.name} layer {self.config.backbone.layer} ({self.backbone_fingerprint}); give that one"
            )
        self.backbone = backbone
        return self

    def _open_backbone(self) -> Backbone:
        backbone = self.backbone
        if backbone is None:
            backbone = open_backbone(self.config.backbone, self.device)
            self.use_backbone(backbone)
        return backbone


def shipped_models() -> dict[str, Path]:
    """The models that came with the package, name -> folder."""
    if not CHECKPOINTS.is_dir():
        return {}
    return {path.name: path for path in sorted(CHECKPOINTS.iterdir()) if (path / "config.json").is_file()}


def find_model(model: str | Path) -> Path:
    """The folder of a shipped name, of a saved model, or of a training run (its ``model/``). Raises CheckpointError."""
    shipped = shipped_models()
    if str(model) in shipped:
        return shipped[str(model)]
    folder = Path(model).expanduser()
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    names = ", ".join(shipped) or "none in this installation"
    if not folder.exists():
        raise CheckpointError(f"there is no model {str(model)!r}: give a folder, or a shipped name ({names})")
    raise CheckpointError(
        f"{folder} holds no model (config.json is missing): give a model folder, or a shipped name ({names})"
    )


def best_device() -> torch.device:
    """CUDA, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The point at ``share`` of the arc from ``a`` to ``b``, taken as two long vectors; a chord where they are parallel."""
    cosine = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).clamp(-1, 1)
    angle = torch.arccos(cosine)
    if torch.sin(angle) < 1e-4:
        return torch.lerp(a, b, share)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def _of_rows(values: Any, rows: list[int]) -> Any:
    """Of some texts what is given for each; anything else holds for all."""
    return [values[i] for i in rows] if isinstance(values, Sequence) and not isinstance(values, str) else values


def _without_choice(options: Sampling, why: str) -> None:
    """ConfigError where one of several candidates is asked for."""
    for name in ("mbr", "best"):
        if options.get(name, 1) != 1:
            raise ConfigError(f"{name} {why}")


def _end(points: Iterator[Point]) -> Latents:
    *_, last = points
    return last.clean


def _checked_texts(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise DataError("a single string was given; give a list of texts")
    if not texts:
        raise DataError("no texts were given; give at least one")
    return list(texts)


def check_options(options: Sampling) -> None:
    """TypeError for a name that is none, as of any function."""
    unknown = options.keys() - Sampling.__optional_keys__
    if unknown:
        known = ", ".join(sorted(Sampling.__optional_keys__))
        raise TypeError(f"unexpected keyword argument {min(unknown)!r}; there are {known}")


def checked_sources(source: Sequence[str], n: int | None = None) -> list[str]:
    """The sources, none of them blank, as many as the ``n`` texts that were asked for. Raises DataError, ConfigError."""
    sources = _checked_texts(source)
    blank = [number for number, text in enumerate(sources, start=1) if not text.strip()]
    if blank:
        raise DataError(f"source {blank[0]} of {len(sources)} is empty: give its text, or leave it out")
    if n not in (None, len(sources)):
        raise ConfigError(f"n is {n} and there are {len(sources)} sources: each gives one text, so leave n out")
    return sources


def checked_seeds(seed: int, n: int, candidate: int = 0) -> list[int]:
    if n < 1:
        raise ConfigError(f"n is {n}; it must be at least 1")
    return seeds_of(seed, n, candidate)


def batches(items: list[T], size: int) -> Iterator[list[T]]:
    if size < 1:
        raise ConfigError(f"batch_size is {size}; it must be at least 1")
    return (items[i : i + size] for i in range(0, len(items), size))


def row_slices(n: int, size: int) -> Iterator[slice]:
    """The batches of ``n`` rows."""
    return (slice(rows[0], rows[-1] + 1) for rows in batches(list(range(n)), size))
