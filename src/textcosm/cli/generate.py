"""``textcosm generate``: new texts from noise."""

import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from textcosm.cli.options import (
    Best,
    Candidates,
    Compiled,
    Device,
    Guidance,
    Label,
    Length,
    LmWeight,
    MatrixPrecision,
    Model,
    ProbeOf,
    Refinements,
    Solver,
    SourceField,
    Steps,
    length_of,
    open_probe,
    pairs_of_model,
    parse_and_run,
)
from textcosm.cli.written import Form, Out, write
from textcosm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from textcosm.diffusion.guidance import Guide
    from textcosm.nn.precision import Precision
    from textcosm.pipeline import Sampling, TextDiffusion

    GuideOf = Callable[[TextDiffusion], Guide]

FEW = 8
"""Texts where nothing says how many."""
WATCHED_AT_MOST = 64
"""Texts under --watch: they are decoded together after every step."""


def run(arguments: list[str]) -> None:
    parse_and_run(generate, "generate", arguments)


def generate(
    model: Model = "stories-16",
    n: Annotated[
        int | None,
        arg(
            aliases=["-n"],
            metavar="N",
            help="How many texts.",
            help_behavior_hint=f"(default: {FEW}, or one for each source)",
        ),
    ] = None,
    source: Annotated[
        tuple[str, ...],
        arg(
            metavar="FILE|TEXT",
            help="Write an answer to each of these: a file (as for train; of a .txt each line), - for lines of stdin, or "
            "the words themselves.",
        ),
    ] = (),
    steps: Steps = None,
    solver: Solver = None,
    guidance: Guidance = None,
    refine: Refinements = None,
    lm_weight: LmWeight = None,
    mbr: Candidates = 1,
    best: Best = 1,
    length: Length = None,
    probe: ProbeOf = None,
    label: Label = None,
    guide_scale: Annotated[
        float, arg(metavar="S", help="How strongly the probe guides towards the label; below 0 leads away.")
    ] = 2.0,
    seed: Annotated[
        int | None,
        arg(
            metavar="S",
            help="The same seed gives the same texts.",
            help_behavior_hint="(default: a new one, which is shown)",
        ),
    ] = None,
    form: Form = "text",
    out: Out = None,
    watch: Annotated[bool, arg(help="Show the texts as they emerge from noise (on stderr).")] = False,
    batch_size: Annotated[
        int, arg(metavar="B", help="Texts made at a time; changes the speed and not the texts.")
    ] = 64,
    source_field: SourceField = None,
    precision: MatrixPrecision = "float32",
    compiled: Compiled = False,
    device: Device = None,
) -> None:
    """Write new texts, made from noise: free ones, or in answer to given ones."""
    _check(n, steps, mbr, best, watch)
    start = time.perf_counter()
    sources = _sources(source, model, source_field)
    count = (len(sources) if sources else FEW) if n is None else n
    if watch and count > WATCHED_AT_MOST:
        raise ConfigError(f"--watch shows at most {WATCHED_AT_MOST} texts, not {count}; lower -n or leave --watch out")
    seed = secrets.randbelow(10**6) if seed is None else seed
    options: Sampling = {
        "seed": seed,
        "steps": steps,
        "solver": solver,
        "guidance": guidance,
        "refine": refine,
        "lm_weight": lm_weight,
        "source": sources,
        "mbr": mbr,
        "best": best,
        "length": length_of(length),
        "batch_size": batch_size,
    }
    texts, notes = _texts(model, count, options, watch, device, _guide(probe, label, guide_scale), precision, compiled)
    write(_rows(texts, seed, sources), form, out, spaced=out is None and sys.stdout.isatty())  # for the reader's eye
    for note in notes:  # now, not before: what cannot be done is told in one line
        print(note, file=sys.stderr)
    taken = time.perf_counter() - start
    print(f"{count} {'text' if count == 1 else 'texts'} of {model}, seed {seed}, in {taken:.1f} s", file=sys.stderr)


def _check(n: int | None, steps: int | None, mbr: int, best: int, watch: bool) -> None:
    """Before anything is loaded."""
    if n is not None and n < 1:
        raise ConfigError(f"-n is {n}; ask for at least 1 text")
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps is {steps}; give at least 1")
    for name, candidates in (("mbr", mbr), ("best", best)):
        if candidates < 1:
            raise ConfigError(f"--{name} is {candidates}; choose among at least 1 candidate, such as 8")
        if watch and candidates > 1:
            raise ConfigError(f"--watch shows one text emerge and --{name} chooses among several: leave one of them out")
    if mbr > 1 and best > 1:
        raise ConfigError(f"--mbr {mbr} and --best {best} both choose among candidates: give one of them")


def _sources(given: tuple[str, ...], model: str, field: str | None) -> list[str] | None:
    """The sources, read as the model's own data was; None where none is given."""
    if not given:
        return None
    from textcosm.cli.given import given_texts
    from textcosm.tasks import DataConfig, read_sources

    # A field that is named has no task beside it; it stands for the target as well, which is not read.
    config = DataConfig(source_field=field, target_field=field) if field else pairs_of_model(model)
    found = given_texts(given, lambda data: read_sources(data, config))
    if not found:
        raise DataError(f"--source {' '.join(given)} holds no texts; give at least one")
    return found


def _guide(given: str | None, label: str | None, scale: float) -> "GuideOf | None":
    """From a model, whose latents the probe must know, to the guide."""
    probe = open_probe(given, label)
    if probe is None or label is None:
        return None
    guide = probe.guide(label, scale)

    def of(diffusion: "TextDiffusion") -> "Guide":
        probe.check(diffusion.normaliser)
        return guide

    return of


def _texts(
    model: str,
    n: int,
    options: "Sampling",
    watch: bool,
    device: str | None,
    guide: "GuideOf | None" = None,
    precision: "Precision" = "float32",
    compiled: bool = False,
) -> tuple[Iterable[str], list[str]]:
    """The texts as they are ready, of a rival or of a model of ours, and what the reader must know of their sources."""
    from textcosm.baselines import is_rival
    from textcosm.pipeline import TextDiffusion

    if is_rival(model):
        ours = {
            "--watch": watch,
            "--solver": options.get("solver"),
            "--guidance": options.get("guidance") is not None,
            "--refine": options.get("refine"),
            "--lm-weight": options.get("lm_weight"),
            "--mbr": options.get("mbr") != 1,
            "--best": options.get("best") != 1,
            "--length": options.get("length") is not None,
            "--probe": guide,
            "--precision": precision != "float32",
            "--compile": compiled,
        }
        if asked := [name for name, given in ours.items() if given]:
            raise ConfigError(f"{model} is no text diffusion model in latents: leave {' and '.join(asked)} out")
        return _of_rival(model, n, options, device), []
    diffusion = TextDiffusion.load(model, device)
    slower = [diffusion.use_precision(precision), diffusion.use_compiled() if compiled else None]
    if guide:
        options["guides"] = [guide(diffusion)]
    taught = diffusion.sampler(options).note
    notes = [*filter(None, (taught, *slower)), *_notes(diffusion, model, options.get("source"))]
    if not watch:
        return chain.from_iterable(diffusion.stream(n, **options)), notes
    from rich.console import Console

    from textcosm.cli.watch import watched

    return watched(diffusion.trace(n, **options), Console(stderr=True)), notes


def _of_rival(model: str, n: int, options: "Sampling", device: str | None) -> Iterable[str]:
    from textcosm.baselines import open_rival

    parts = open_rival(model, device).stream(
        n,
        seed=options.get("seed", 0),
        batch_size=options.get("batch_size", 64),
        steps=options.get("steps"),
        source=options.get("source"),
    )
    return chain.from_iterable(parts)


def _notes(diffusion: "TextDiffusion", model: str, sources: Sequence[str] | None) -> list[str]:
    if not diffusion.reads_sources:
        return []
    if sources is None:
        return [f"{model} answers sources and was given none: it wrote freely (see --source)"]
    cut, limit = diffusion.cut_sources(sources), diffusion.config.source.max_length
    return [f"{cut} of {len(sources)} sources were longer than {limit} tokens and were cut"] if cut else []


def _rows(texts: Iterable[str], seed: int, sources: Sequence[str] | None) -> Iterator[dict[str, Any]]:
    for index, text in enumerate(texts):
        source = {"source": sources[index]} if sources else {}
        yield {"index": index, "seed": seed, **source, "text": text}
