"""What the pages say is true: marked code runs, the examples shown are the files, links lead somewhere.

A comment on the line before a fenced block marks it::

    <!-- run -->                      the block runs; blocks of a page share a folder and, in Python, their names
    <!-- file: examples/x.py -->      the block is that file, word for word

``python tests/test_readme.py`` copies the files into the pages anew.

Every file in examples/ runs as well.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
BLOCK = re.compile(r"^<!-- (run|file: (\S+)) -->\n```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
SHIPPED = "stories-16"


@dataclass(frozen=True)
class Block:
    """A marked block of a page."""

    line: int
    file: str | None
    language: str
    code: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in BLOCK.finditer(text):
        yield Block(text.count("\n", 0, found.start()) + 3, found[2], found[3], found[4])


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_marked_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__page__"}
    for block in blocks(page):
        if block.file is not None:
            continue
        _needs_what_is_here(block)
        if block.language == "python":
            lines = "\n" * (block.line - 1) + block.code  # so that a traceback names the page's own line
            exec(compile(lines, name(page), "exec"), names)
        else:
            _run(["bash", "-euo", "pipefail", "-c", block.code], f"{name(page)}, line {block.line}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_shown_are_the_files(page):
    for block in blocks(page):
        if block.file is not None:
            assert block.code == (ROOT / block.file).read_text(encoding="utf-8"), (
                f"{name(page)}, line {block.line}: {block.file} has changed; run: python tests/test_readme.py"
            )


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert not [target for target in targets if not (page.parent / target).exists()]


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_examples_run_and_stand_on_a_page(example, tmp_path):
    _run([sys.executable, "-W", "error", str(example)], name(example), tmp_path)
    assert any(block.file == name(example) for page in PAGES for block in blocks(page))


def _needs_what_is_here(block: Block) -> None:
    from textcosm.pipeline import shipped_models

    if SHIPPED in block.code and SHIPPED not in shipped_models():
        pytest.skip(f"{SHIPPED} is not in this checkout")


def _run(command: list[str], where: str, cwd: Path | None = None) -> None:
    """Run with this Python's own commands first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        command, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{where}:\n{result.stdout}{result.stderr}"


def refresh() -> None:
    """Copy the files that pages show into the pages."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(BLOCK.sub(_with_its_file, text), encoding="utf-8")


def _with_its_file(found: re.Match[str]) -> str:
    if found[2] is None:
        return found[0]
    return f"<!-- {found[1]} -->\n```{found[3]}\n{(ROOT / found[2]).read_text(encoding='utf-8')}```"


if __name__ == "__main__":
    refresh()
