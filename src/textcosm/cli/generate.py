"""``textcosm generate``: new texts from noise."""

import json
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from textcosm.checkpoint import whole_file
from textcosm.cli.options import Device, Model, parse_and_run
from textcosm.errors import ConfigError

OWN = "(default: the model's own)"
WATCHED_AT_MOST = 64
"""Texts under --watch: they are decoded together after every step."""


def run(arguments: list[str]) -> None:
    parse_and_run(generate, "generate", arguments)


def generate(
    model: Model = "stories-16",
    n: Annotated[int, arg(aliases=["-n"], metavar="N", help="How many texts.")] = 8,
    steps: Annotated[int | None, arg(metavar="K", help="Steps from noise to text.", help_behavior_hint=OWN)] = None,
    solver: Annotated[
        str | None,
        arg(metavar="NAME", help="euler-maruyama, pf-euler, ddim, ddpm, heun or dpm++2m.", help_behavior_hint=OWN),
    ] = None,
    seed: Annotated[
        int | None,
        arg(
            metavar="S",
            help="The same seed gives the same texts.",
            help_behavior_hint="(default: a new one, which is shown)",
        ),
    ] = None,
    form: Annotated[
        Literal["text", "jsonl"], arg(name="format", help="A text a line, or a JSON object a line.")
    ] = "text",
    out: Annotated[
        Path | None,
        arg(metavar="FILE", help="Write here, whole or not at all.", help_behavior_hint="(default: stdout)"),
    ] = None,
    watch: Annotated[bool, arg(help="Show the texts as they emerge from noise (on stderr).")] = False,
    batch_size: Annotated[
        int, arg(metavar="B", help="Texts made at a time; changes the speed and not the texts.")
    ] = 64,
    device: Device = None,
) -> None:
    """Write new texts, made from noise."""
    from textcosm.baselines import is_rival, open_rival
    from textcosm.pipeline import TextDiffusion

    if n < 1:
        raise ConfigError(f"-n is {n}; ask for at least 1 text")
    if steps is not None and steps < 1:
        raise ConfigError(f"--steps is {steps}; give at least 1")
    if watch and n > WATCHED_AT_MOST:
        raise ConfigError(f"--watch shows at most {WATCHED_AT_MOST} texts, not {n}; lower -n or leave --watch out")
    start = time.perf_counter()
    seed = secrets.randbelow(10**6) if seed is None else seed
    if is_rival(model):
        if watch or solver:
            raise ConfigError(f"{model} is no text diffusion model in latents: leave --watch and --solver out")
        rival = open_rival(model, device)
        texts: Iterable[str] = chain.from_iterable(rival.stream(n, seed=seed, batch_size=batch_size, steps=steps))
    elif watch:
        from rich.console import Console

        from textcosm.cli.watch import watched

        diffusion = TextDiffusion.load(model, device)
        snapshots = diffusion.trace(n, steps=steps, solver=solver, seed=seed)
        texts = watched(snapshots, Console(stderr=True))
    else:
        diffusion = TextDiffusion.load(model, device)
        texts = chain.from_iterable(diffusion.stream(n, steps=steps, solver=solver, seed=seed, batch_size=batch_size))
    lines = _lines(texts, form, seed, spaced=form == "text" and out is None and sys.stdout.isatty())
    _write(lines, out)
    taken = time.perf_counter() - start
    print(f"{n} {'text' if n == 1 else 'texts'} of {model}, seed {seed}, in {taken:.1f} s", file=sys.stderr)


def _lines(texts: Iterable[str], form: str, seed: int, spaced: bool) -> Iterator[str]:
    """One line a text; on a terminal (``spaced``) a blank line after each, for the reader's eye."""
    for index, text in enumerate(texts):
        if form == "jsonl":
            yield json.dumps({"index": index, "seed": seed, "text": text}, ensure_ascii=False)
        else:
            yield " ".join(text.split()) + ("\n" if spaced else "")


def _write(lines: Iterable[str], out: Path | None) -> None:
    if out is None:
        for line in lines:
            print(line, flush=True)
        return
    with whole_file(out) as file:
        for line in lines:
            print(line, file=file)
