"""The rules of the house: imports go downwards, import costs torch only, every file says what it is for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "textcosm"
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"transformers", "tokenizers", "tyro", "rich", "pyarrow", "datasets", "sacrebleu", "tensorboard", "scipy"}


def test_imports_go_downwards_only():
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("import_line", ["import textcosm", "from textcosm import TextDiffusion"])
def test_import_costs_torch_and_nothing_more(import_line):
    code = f"import sys; {import_line}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert not HEAVY & set(result.stdout.split())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_opens_with_a_docstring_and_has_a_telling_name(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path} does not say what it is for"
    assert path.stem not in {"utils", "common", "helpers", "base", "misc"}
    assert not any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in ast.walk(tree))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_validation_is_not_left_to_assert(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    asserts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert not asserts, f"{path}: lines {asserts}: raise an error of errors.py instead (python -O drops asserts)"


def test_every_test_module_mirrors_a_source_module():
    """tests/room/test_thing.py tests src/textcosm/room/thing.py; the tests of the whole sit in tests/ itself."""
    strays = [
        str(test.relative_to(ROOT))
        for test in (ROOT / "tests").glob("*/test_*.py")
        if not (PACKAGE / test.parent.name).is_dir()
    ]
    assert not strays
