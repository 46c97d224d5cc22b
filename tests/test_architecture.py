"""How files and functions are: their lengths, the names that are avoided, what is caught, and what an import loads.

Which package may import which stands in pyproject.toml, where `make lint` has import-linter check it.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pytest_quantbench"
AVOIDED = {"utils", "common", "helper", "helpers", "manager", "base", "misc", "data", "info"}
FILES = sorted(PACKAGE.rglob("*.py"))


def test_no_file_has_a_name_that_says_nothing():
    assert not {path.stem for path in FILES} & AVOIDED


def test_files_and_functions_are_short():
    """Median file about 120 lines, none over 250; no function over 60."""
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}
    for path, length in lengths.items():
        assert length <= 250, f"{path} has {length} lines"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path}: {node.name}"


@pytest.mark.parametrize("package", ["judge.rules", "stats.series", "record.schema", "report.markdown"])
def test_verdicts_and_reports_load_no_engine(package):
    code = (
        f"import sys, pytest_quantbench.{package}; "
        "print({'mlx', 'mlx.core', 'torch', 'transformers'} & set(sys.modules) or '')"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_nothing_is_caught_that_was_not_named():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, path
                assert ast.unparse(node.type) not in ("Exception", "BaseException"), path


def test_public_names_come_lazily():
    import pytest_quantbench

    for name in pytest_quantbench.__all__:
        assert getattr(pytest_quantbench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pytest_quantbench.nothing
