"""Either library is enough: whole sessions in processes in which the other cannot be imported."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_quantbench.judge.roofline import BY_OVERHEAD
from pytest_quantbench.record import folder

pytestmark = pytest.mark.slow
REPOSITORY = Path(__file__).parents[2]
WITHOUT = {  # by the engine that is left: what cannot be imported
    "torch": ("mlx", "mlx_lm"),
    "mlx": ("torch", "triton", "numba"),
    "PyTorch alone": ("llvmlite",),  # which somebody has for other work
}
HIDING = """
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def unless_missing(finder, name, *rest):
    return None if name.partition(".")[0] in {missing!r} else find(name, *rest)
PathFinder.find_spec = classmethod(unless_missing)
"""
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch is not installed")
ENGINES = [pytest.param("torch", marks=needs_torch), "mlx"]


@pytest.fixture
def run(tmp_path):
    """A command of Python's in a process that has one of the libraries alone; the choice is left to it."""

    def start(engine, *command):
        (tmp_path / "sitecustomize.py").write_text(HIDING.format(missing=WITHOUT[engine]))
        environment = {name: value for name, value in os.environ.items() if name != "QUANTBENCH_ENGINE"}
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
        return subprocess.run(
            [sys.executable, *command], env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=600
        )

    return start


@pytest.mark.parametrize("engine", ENGINES)
def test_the_main_job_needs_one_library(run, tmp_path, engine):
    """Compressed with calibration, measured by every measure, judged, recorded and reported."""
    results = ("--results", str(tmp_path / "results"), "-p", "no:cacheprovider")
    recipes = ("--recipe", "int4-gptq", "--recipe", "int4-rtn")
    done = run(engine, "-m", "pytest", "benches", "-k", "Tiny", "--runs", "1", "--fixed", *recipes, *results)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Error" not in done.stdout, done.stdout
    assert f"run by {'PyTorch' if engine == 'torch' else 'MLX'}" in done.stdout
    records = folder.read_all(tmp_path / "results")
    assert {record.recipe for record in records} == {"bf16", "int4-gptq", "int4-rtn"}
    for record in records:
        assert record.machine.engine == engine
        assert None not in (record.throughput, record.perplexity, record.accuracy)
        for verdict in record.verdicts:
            compared = verdict.metric == "throughput_ratio" and record.recipe != "bf16"
            if compared and engine == "torch":  # Tiny is bound by overhead; other load may blur that
                assert verdict.not_judged == BY_OVERHEAD or verdict.outcome == "undecided", verdict


@needs_torch
def test_pytorch_without_what_compiles_its_kernels_is_no_reason_to_take_it(run, tmp_path):
    results = ("--results", str(tmp_path / "results"), "-p", "no:cacheprovider")
    done = run("PyTorch alone", "-m", "pytest", "benches", "-k", "Tiny and throughput", "--runs", "1", *results)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "run by MLX" in done.stdout


@pytest.mark.parametrize("engine", ENGINES)
def test_a_quantizer_is_checked_with_one_library(run, engine):
    done = run(engine, "-m", "pytest_quantbench.cli", "conform", "rtn")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout


@pytest.mark.parametrize(("engine", "asked", "extra"), [("mlx", "torch", "torch"), ("torch", "mlx", "cpu")])
def test_the_one_that_is_missing_is_asked_for_in_vain(run, engine, asked, extra):
    done = run(engine, "-m", "pytest", "benches", "-k", "Tiny", "--engine", asked, "--collect-only")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert re.search(rf"The engine '{asked}' needs the packages? {asked}.*not installed\.", done.stderr)
    assert f"pip install 'pytest-quantbench[{extra}]'" in done.stderr
