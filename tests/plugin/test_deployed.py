"""Items on a candidate's own runtime: which there are, and what is said where it is not installed."""

import pytest
from mlx_models import as_mlx

from pytest_quantbench.bench.cell import Cell
from pytest_quantbench.engines import runtimes
from pytest_quantbench.engines.runtimes import Runtime

GATE = """
    import pytest

    @pytest.mark.runtime
    def test_runtime(deployed):
        assert deployed == "run"

    @pytest.mark.size
    def test_size(cell):
        pass
"""
OTHER = Runtime(name="mlx-other", formats=("mlx",), package="no_such_package", distribution="x", extra="o", module="x")


@pytest.fixture
def given(small_model, tmp_path):
    original = small_model()
    q4 = as_mlx(original, tmp_path / "q4", bits=4)
    return ("--model", str(original), "--candidate", str(q4), "--candidate", f"plain={original}")


def test_only_candidates_of_a_format_with_a_runtime_have_an_item(suite, given):
    result = suite(GATE, *given, "--collect-only", "-q")
    found = [line for line in result.outlines if "::test_runtime" in line]
    assert len(found) == 1
    assert found[0].endswith("-q4]")
    assert sum("::test_size" in line for line in result.outlines) == 3  # and the others have theirs


def test_without_candidates_there_is_none(suite):
    result = suite(GATE, "-k", "Tiny", "--collect-only", "-q")
    assert not any("::test_runtime" in line for line in result.outlines)


def test_what_is_not_installed_is_skipped_with_the_way_out(suite, given, monkeypatch):
    monkeypatch.setattr(runtimes, "RUNTIMES", (OTHER,))
    result = suite(GATE, *given, "-m", "runtime", "-rs")
    result.assert_outcomes(skipped=1, deselected=5)
    result.stdout.fnmatch_lines(
        ["*mlx-other is not installed. Install it with pip install 'pytest-quantbench[[]o[]]'.*"]
    )


def test_a_test_gets_what_was_run(suite, given, monkeypatch):
    asked = []
    monkeypatch.setattr(Cell, "samples", lambda self, measure: asked.append((self.id, measure)) or "run")
    suite(GATE, *given, "-m", "runtime").assert_outcomes(passed=1, deselected=5)
    assert [measure for _, measure in asked] == ["runtime"]
