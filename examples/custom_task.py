"""Texts of your own making: every paragraph of every .txt file in a folder, a whole file in one split."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from textcosm.tasks import Example
from textcosm.testing import check_task


@dataclass(frozen=True)
class FolderTask:
    """What the protocol asks for: a name, names of metrics, and the examples of a split in a fixed order.

    Paragraphs of one file resemble each other, so files are held out, not paragraphs: every tenth is for validation.
    """

    folder: Path
    metrics: tuple[str, ...] = ("perplexity", "diversity")

    @property
    def name(self) -> str:
        return self.folder.name

    def examples(self, split: str) -> Iterator[Example]:
        for number, file in enumerate(sorted(self.folder.glob("*.txt"))):
            if (number % 10 == 0) == (split == "valid"):
                paragraphs = file.read_text(encoding="utf-8").split("\n\n")
                yield from (Example(" ".join(text.split())) for text in paragraphs if text.strip())


def main():
    with TemporaryDirectory() as folder:
        for number in range(20):
            story = f"On day {number} it rained.\nNobody minded.\n\nOn the next day, all {number} ducks came back.\n"
            (Path(folder) / f"{number:02}.txt").write_text(story, encoding="utf-8")
        task = FolderTask(Path(folder))
        check_task(task)
        counts = {split: sum(1 for _ in task.examples(split)) for split in ("train", "valid")}
        print(counts, "first:", next(task.examples("train")))


if __name__ == "__main__":
    main()
