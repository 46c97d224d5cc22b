"""`quantbench run` from folders that are not this repository's, as users have them."""

import json
import os
import subprocess
import sys

import pytest
from gates import BENCHES

TINY_SIZE = ("-k", "Tiny and size and int4", "--recipe", "int4-rtn")
STRICTER = """
[tool.quantbench.criteria.int4]
size_reduction_percent = 99.0
[tool.pytest.ini_options]
addopts = "--no-such-option"
"""


def quantbench(directory, *arguments, command=(sys.executable, "-m", "pytest_quantbench.cli"), **environment):
    """What it returned and printed, as a user without our conftest runs it."""
    known = {name: value for name, value in os.environ.items() if name != "PYTEST_PLUGINS"} | environment
    found = subprocess.run(
        [*command, *arguments], cwd=directory, env=known, capture_output=True, text=True, timeout=300
    )
    return found.returncode, found.stdout + found.stderr


def test_the_suite_is_the_one_of_this_repository(tmp_path):
    code, said = quantbench(tmp_path, "run", "--collect-only", "-q", "-k", "phi")
    assert code == pytest.ExitCode.OK
    listed = {line.partition("[")[0].split("/")[-1] for line in said.splitlines() if "::" in line}
    assert listed
    assert {name.partition("::")[0] for name in listed} <= {path.name for path in BENCHES.glob("test_*.py")}
    assert {path.name for path in tmp_path.iterdir()} <= {".benchmarks", ".pytest_cache"}  # no results


@pytest.mark.model
def test_it_runs_from_an_empty_folder_and_leaves_its_results_there(tmp_path):
    code, said = quantbench(tmp_path, "run", *TINY_SIZE)
    assert code == pytest.ExitCode.OK, said
    assert "1 passed" in said
    record = json.loads((tmp_path / "results" / "Tiny_4bit_rtn.json").read_text())
    assert record["verdicts"][0]["outcome"] == "pass"
    report = (tmp_path / "results" / "benchmark_int_quant.md").read_text()
    assert "quantbench run -k 'Tiny and size and int4' --recipe int4-rtn" in report
    assert not set(BENCHES.glob("**/.pytest_cache"))


@pytest.mark.slow
def test_a_users_table_holds_and_their_projects_pytest_does_not(tmp_path):
    (tmp_path / "pyproject.toml").write_text(STRICTER)
    (tmp_path / "conftest.py").write_text("raise RuntimeError")
    code, said = quantbench(tmp_path, "run", *TINY_SIZE)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "limit ≥ 99 %" in said


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("--limit", "0"), pytest.ExitCode.USAGE_ERROR, "--limit 0: give a number of at least 1."),
        (("-k", "Mixtral"), pytest.ExitCode.NO_TESTS_COLLECTED, "nothing selected; the models are Tiny"),
        (("-m", "int5"), pytest.ExitCode.USAGE_ERROR, "Unknown marker 'int5'"),
    ],
)
def test_exit_codes_are_pytests(tmp_path, arguments, code, told):
    found, said = quantbench(tmp_path, "run", "--collect-only", *arguments)
    assert (found, told in said) == (code, True), said


@pytest.mark.slow
def test_a_wheel_brings_the_suite(tmp_path):
    """Built from this tree, installed beside nothing, run from an empty folder."""
    pytest.importorskip("hatchling", reason="hatchling builds the wheel; it is among the extras `dev`")
    pip = (sys.executable, "-m", "pip")
    wheels, target, empty = tmp_path / "wheels", tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    build = ("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(wheels))
    code, said = quantbench(tmp_path, *build, str(BENCHES.parent), command=pip)
    assert code == 0, said
    (wheel,) = wheels.iterdir()
    install = ("install", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    code, said = quantbench(tmp_path, *install, command=pip)
    assert code == 0, said
    shipped = target / "pytest_quantbench" / "benches"
    assert {path.name: path.read_bytes() for path in shipped.glob("*.py")} == {
        path.name: path.read_bytes() for path in BENCHES.glob("*.py")
    }
    installed = {"PYTHONPATH": str(target)}
    where = ("-c", "from pytest_quantbench.plugin import suite; print(suite.SUITE)")
    assert quantbench(empty, *where, command=(sys.executable,), **installed) == (0, f"{shipped}\n")
    code, said = quantbench(empty, "run", "-v", *TINY_SIZE, command=(target / "bin" / "quantbench",), **installed)
    assert code == pytest.ExitCode.OK, said
    assert "test_size.py::test_size[Tiny-int4-rtn] PASSED" in said
    assert "warning" not in said
    assert (empty / "results" / "Tiny_4bit_rtn.json").is_file()
    assert not list(shipped.glob(".pytest_cache"))
