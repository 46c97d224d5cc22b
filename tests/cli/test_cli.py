import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_perplexity, make_record

from pytest_quantbench.cli.main import main
from pytest_quantbench.judge.verdict import Verdict
from pytest_quantbench.record import folder as results

BENCHES = Path(__file__).parents[2] / "benches"


def records():
    for level, bits, outcome, estimate in (
        ("int4", 4, "pass", 0.2),
        ("int3", 3, "undecided", 2.4),
        ("int2", 2, "fail", 60),
    ):
        verdict = Verdict(
            metric="perplexity_delta",
            outcome=outcome,
            limit=1,
            estimate=estimate,
            low=0.9 * estimate,
            high=1.1 * estimate,
            sentence="S.",
        )
        yield make_record(level=level, recipe=level, bits=bits, perplexity=make_perplexity(), verdicts=(verdict,))


@pytest.fixture
def folder(tmp_path):
    for record in records():
        results.save(record, {}, tmp_path)
    return tmp_path


def test_the_report_is_rebuilt_from_the_json_files_alone(folder, capsys):
    for file in folder.glob("*.npz"):
        file.unlink()
    assert main(["report", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "Tiny-int4 │ 4.000 against 3.500 (512 tokens), Δ +0.500 [+0.400, +0.600] ✓" in printed
    assert (folder / "benchmark_int_quant.md").read_text().startswith("# Quantization benchmark")
    assert (folder / "combined.json").is_file()
    again = (folder / "combined.json").read_bytes()
    assert main(["report", str(folder)]) == 0
    assert (folder / "combined.json").read_bytes() == again


def test_a_folder_without_records_is_one_sentence_and_exit_2(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "holds no records" in capsys.readouterr().err


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
    code, _, err = plan(tmp_path)
    assert code == 2
    assert "selects no cell" in err or "pytest cannot collect" in err


def test_plan_takes_options_whose_values_are_paths(empty_caches, tmp_path):
    """Not every argument that exists as a path is a folder of tests."""
    arguments = ("--results", str(tmp_path), "-m", "int4 and size", "-k", "Tiny")
    code, out, _ = plan(BENCHES.parent, *arguments)
    assert (code, out.splitlines()[0]) == (0, "selection: 1 cells, 1 models at int4")
    code, _, err = plan(BENCHES.parent, "-k", "nothing")
    assert code == 2
    assert "selects no cell" in err
