import subprocess
import sys

import pytest
from gates import BENCHES


def plan(directory, *arguments):
    """`quantbench plan` in a process of its own: pytest runs in it."""
    command = [sys.executable, "-m", "pytest_quantbench.cli", "plan", *arguments]
    found = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
    return found.returncode, found.stdout, found.stderr


@pytest.fixture
def empty_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "cache"))


def test_plan_says_what_a_selection_takes(empty_caches):
    code, out, _ = plan(BENCHES.parent, "-m", "int4 and t1", "-k", "Llama-3.1")
    assert code == 0
    assert "selection: 1 cells, 1 models at int4\nto fetch: Llama-3.1-8B-Instruct 16.1 GB\n" in out
    assert "A         1   20.6 GB   20.6 GB" in out
    assert "D         1   20.6 GB    4.5 GB" in out
    assert "S         1   16.1 GB    0.0 GB" in out
    assert "memory: T1 loads whole models: 16.1 GB for Llama-3.1-8B-Instruct-bf16" in out
    assert "time: " in out


@pytest.mark.slow
def test_plan_takes_a_path_and_passes_on_what_pytest_says(empty_caches, tmp_path):
    (tmp_path / "test_own.py").write_text("def test_own(cell): pass")
    code, out, _ = plan(tmp_path, "test_own.py", "-k", "Tiny")
    assert (code, out.splitlines()[:2]) == (
        0,
        ["selection: 5 cells, 1 models at bf16, int8, int4, int3, int2", "to fetch: nothing"],
    )
    code, _, err = plan(tmp_path, "test_own.py", "--disk-plan", "X")
    assert code == 2
    assert "Unknown disk plan 'X'" in err
    assert "pytest test_own.py --disk-plan X cannot collect" in err
    (tmp_path / "test_own.py").write_text("def test_own(): pass")
    code, _, err = plan(tmp_path, "test_own.py")
    assert (code, err) == (
        2,
        "quantbench: pytest test_own.py selects no cell. Name a folder of tests, look at -k and -m.\n",
    )


@pytest.mark.slow
def test_without_a_path_the_plan_is_of_the_suite_that_comes_with_the_package(empty_caches, tmp_path):
    """From any folder; not every argument that exists as a path is a folder of tests."""
    arguments = ("--results", str(tmp_path), "-m", "int4 and size", "-k", "Tiny")
    for folder in (BENCHES.parent, tmp_path):
        code, out, _ = plan(folder, *arguments)
        assert (code, out.splitlines()[0]) == (0, "selection: 1 cells, 1 models at int4")
    code, _, err = plan(tmp_path, "-k", "nothing")
    assert (code, err.partition(".")[0]) == (2, "quantbench: quantbench run -k nothing selects no cell")


@pytest.mark.slow
def test_options_are_told_as_they_can_be_typed(empty_caches, tmp_path, monkeypatch):
    monkeypatch.delenv("PYTEST_PLUGINS")
    (tmp_path / "test_own.py").write_text("def test_own(cell): pass")
    selected = ("-k", "Tiny-int4")
    _, own, _ = plan(tmp_path, "test_own.py", *selected)
    _, suite, _ = plan(tmp_path, *selected)
    assert "fits: --qb-disk-plan A or" in own
    assert "(--qb-memory)" in own
    assert "fits: --disk-plan A or" in suite
    assert "(--memory)" in suite
