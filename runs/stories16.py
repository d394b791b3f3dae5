"""Measure what a story model reaches (reconstruction, smoothness, new stories, start) and show 50 stories, unpicked.

    python runs/stories16.py MODEL --train TRAIN.jsonl --test TEST.jsonl

MODEL is a shipped name, a model folder or a run; the encoder and the judge must be installed. Everything goes to
``--out``: one JSON a step, ``metrics.json`` with all of them, ``stories.md`` with the first 50 stories. A step that is
done is not done again (remove its JSON to repeat it), so the command can be stopped and given again; new stories are
made and judged a hundred at a time: about half an hour on two CPU cores at the default sizes. With ``--into-card`` the
measurements go into the model's own record and card.
"""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from textcosm.checkpoint import read_index, whole_file
from textcosm.errors import DataError, TextcosmError
from textcosm.evaluation.card import metrics_table, write_card
from textcosm.evaluation.judges import open_judge
from textcosm.evaluation.measure import measure_autoencoder, measure_generation
from textcosm.pipeline import TextDiffusion, find_model
from textcosm.tasks.files import read_texts

AT_A_TIME = 100
SHOWN = 50


@dataclass(frozen=True)
class Plan:
    """What to measure, on what, and how much of it."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A shipped name, a model folder or a training run."""
    train: Path
    """The stories it was trained on: what counts as memorised."""
    test: Path
    """Stories it was not trained on: reconstructed, and compared with."""
    out: Path = Path("runs/out/stories16")
    """Where results go, and where finished steps are found again."""
    text_field: Annotated[str | None, tyro.conf.arg(metavar="FIELD")] = None
    """Which field holds the stories; guessed by default."""
    stories: int = 1000
    """New stories to measure, beside as many of the test stories."""
    reconstructed: int = 2000
    """Test stories to reconstruct (at most)."""
    under_noise: int = 500
    """Test stories whose latents get noise, at each of five levels."""
    judge: str = "smollm2"
    """smollm2, a .gguf file, a model folder, or none."""
    seed: int = 0
    """Stories 100 k to 100 k + 99 are those of seed + k."""
    threads: int = 2
    """CPU threads."""
    whole_stories: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """How many of the 50 in stories.md a reader called five whole English sentences."""
    into_card: bool = False
    """Write the measurements into the model's record, and its card anew."""


def measure(plan: Plan, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Do every step of the plan that is not done yet; all results as one dictionary."""
    torch.set_num_threads(plan.threads)
    steps = Steps(plan, say)
    train = list(read_texts(plan.train, plan.text_field))
    test = list(read_texts(plan.test, plan.text_field))
    if len(test) < plan.stories:
        raise DataError(f"{plan.test} holds {len(test)} texts, fewer than --stories {plan.stories}: lower it")
    model = TextDiffusion.load(plan.model, "cpu")

    def autoencoder() -> dict[str, Any]:
        return measure_autoencoder(model, test[: plan.reconstructed], noise_texts=plan.under_noise).to_dict()

    def generation() -> dict[str, Any]:
        judge = None if plan.judge == "none" else open_judge(plan.judge)
        return measure_generation(new, test, train, judge, plan.out / "readings").to_dict()

    metrics = {"autoencoder": steps.once("autoencoder", autoencoder)}
    new = list(_stories(plan, model, steps))
    metrics["generation"] = steps.once("generation", generation)
    metrics["start_seconds"] = steps.once("start", lambda: cold_start(plan))
    if plan.whole_stories is not None:
        metrics["whole_stories"] = f"{plan.whole_stories} of {min(SHOWN, plan.stories)}"
    metrics |= {"data": _data(plan, train, test), "command": _command(plan)}
    _write(plan.out / "metrics.json", json.dumps(metrics, indent=2, ensure_ascii=False))
    _write(plan.out / "stories.md", _shown(plan, new))
    return metrics


class Steps:
    """Results kept by step under a key of everything that could change them."""

    def __init__(self, plan: Plan, say: Callable[[str], None]):
        self.plan, self.say = plan, say
        index = read_index(find_model(plan.model))
        model = [index["sha256"], index["metadata"]["config"]]
        files = [f"{path.stat().st_size} {path.resolve()}" for path in (plan.train, plan.test) if path.exists()]
        sizes = [plan.text_field, plan.stories, plan.reconstructed, plan.under_noise, plan.judge, plan.seed]
        self.key = hashlib.sha256(json.dumps([model, files, sizes], sort_keys=True).encode()).hexdigest()[:16]

    def once(self, name: str, work: Callable[[], Any]) -> Any:
        """The result of ``work``, from the last time if it is there."""
        path = self.plan.out / f"{name}-{self.key}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
        start = time.perf_counter()
        result = json.dumps(work(), ensure_ascii=False)
        _write(path, result)
        self.say(f"{name}: {time.perf_counter() - start:.0f} s")
        return json.loads(result)


def _stories(plan: Plan, model: TextDiffusion, steps: Steps) -> Iterator[str]:
    for part, start in enumerate(range(0, plan.stories, AT_A_TIME)):
        count = min(AT_A_TIME, plan.stories - start)
        yield from steps.once(f"stories-{part:02d}", lambda n=count, k=part: model.sample(n, seed=plan.seed + k))


def cold_start(plan: Plan) -> float:
    """Seconds from the command line to the first story, in a new process with two threads."""
    command = [sys.executable, "-m", "textcosm", "generate", "--model", plan.model, "-n", "1", "--seed", "0"]
    start = time.perf_counter()
    two_cores = {**os.environ, "OMP_NUM_THREADS": "2"}
    subprocess.run([*command, "--device", "cpu"], check=True, capture_output=True, env=two_cores)
    return time.perf_counter() - start


def into_card(plan: Plan, metrics: dict[str, Any]) -> Path:
    """Put the measurements into the record of the model's checkpoint and write its card."""
    folder = find_model(plan.model)
    model = TextDiffusion.load(plan.model, "cpu")
    model.record["metrics"] = metrics
    model.save(folder, precision=read_index(folder)["precision"])
    return write_card(folder, None if folder.name != "model" else folder.parent.name)


def _shown(plan: Plan, stories: list[str]) -> str:
    head = f"# {min(SHOWN, len(stories))} stories, unpicked\n\nThe first stories of seed {plan.seed}, in order.\n\n"
    return head + "".join(f"{i}. {' '.join(story.split())}\n" for i, story in enumerate(stories[:SHOWN], start=1))


def _data(plan: Plan, train: list[str], test: list[str]) -> str:
    return (
        f"Measured on {min(plan.reconstructed, len(test)):,} of {len(test):,} texts of {plan.test.name} "
        f"({min(plan.under_noise, len(test)):,} under noise); "
        f"memorisation against the {len(train):,} texts of {plan.train.name}."
    )


def _command(plan: Plan) -> str:
    sizes = f"--stories {plan.stories} --reconstructed {plan.reconstructed} --under-noise {plan.under_noise}"
    files = f"--train {shlex.quote(plan.train.name)} --test {shlex.quote(plan.test.name)}"
    model = Path(plan.model).name
    return f"python runs/stories16.py {shlex.quote(model)} {files} {sizes} --judge {plan.judge} --seed {plan.seed}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(text)


def main() -> None:
    plan = tyro.cli(Plan, description=__doc__)
    try:
        metrics = measure(plan, say=lambda line: print(line, file=sys.stderr, flush=True))
        print(metrics_table(metrics))
        print("\n" + (plan.out / "stories.md").read_text(encoding="utf-8"))
        if plan.into_card:
            print(f"wrote {into_card(plan, metrics)}", file=sys.stderr)
    except (TextcosmError, OSError) as error:
        sys.exit(f"stories16: {error}")


if __name__ == "__main__":
    main()
