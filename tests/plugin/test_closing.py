import json
from pathlib import Path

import pytest
from gates import CHECKS, GATE

from pytest_quantbench.catalog.models import TINY_DIRECTORY


def test_a_model_whose_name_has_accents_runs_and_leaves_its_record(suite, small_model, pytester):
    directory = small_model().rename(Path.cwd() / "ünï")
    result = suite(GATE, "--model", str(directory), "-k", "ünï", "-m", "int4", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_size[[]ünï-int4[]] PASSED*"])
    assert json.loads((pytester.path / "results" / "ünï_4bit.json").read_text())["model_id"] == "ünï"


@pytest.mark.parametrize("more", [(), ("--keep-compressed",)])
def test_a_streamed_run_writes_no_compressed_model_unless_asked(suite, pytester, monkeypatch, more):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(pytester.path / "cache"))
    arguments = ("-k", "Tiny", "-m", "int4", "--recipe", "int4-rtn", "--tokens", "512", "--fixed", "--disk-plan", "S")
    suite(CHECKS, *arguments, *more).assert_outcomes(passed=1)
    assert any((pytester.path / "cache").rglob("*.safetensors")) == bool(more)
    assert (Path(TINY_DIRECTORY) / "model.safetensors").is_file()  # not ours to delete


@pytest.mark.parametrize(("arguments", "deletes"), [((), True), (("-x",), False)])
def test_a_session_that_is_stopped_deletes_no_weights(suite, monkeypatch, arguments, deletes):
    seen = []
    monkeypatch.setattr("pytest_quantbench.bench.subject.Subject.delete_weights", lambda self: seen.append(self) or 0)
    source = GATE + "\n@pytest.mark.size\ndef test_fails(cell): assert False\ndef test_more(cell): pass\n"
    suite(source, "-k", "Tiny", "-m", "bf16", "--disk-plan", "B", *arguments)
    assert bool(seen) == deletes


def test_a_lax_gate_covers_no_strict_one_up(suite, pytester):
    """Both judge one metric of one cell: the failed test stands as failed in record, summary and suite."""
    source = """
        import pytest

        @pytest.mark.parametrize("limit", [99.0, None, 1.0])
        def test_size(cell, settle, limit):
            settle(cell.judge("size", limit))

        def test_suite(suite, settle):
            settle(suite)
            assert (suite.met, suite.failed) == (0, 1)
    """
    result = suite(source, "-k", "Tiny", "-m", "int4")
    result.assert_outcomes(passed=3, failed=1)
    record = json.loads((pytester.path / "results" / "Tiny_4bit.json").read_text())
    told = [(each["limit"], each["given"], each["outcome"]) for each in record["verdicts"]]
    assert told == [(70.0, False, "pass"), (1.0, True, "pass"), (99.0, True, "fail")]
    told = "Tiny-int4 may not ship: its files are 71.7 % smaller than BF16, and at least 99*"
    result.stdout.fnmatch_lines([told, "  int4 * -71.7%✗ *"])


def test_a_check_behind_an_item_without_a_cell_is_recorded_all_the_same(suite, pytester):
    """Whatever reorders items behind us, as --ff does: the cell is open until its last check is done."""
    pytester.makeconftest("""
        import pytest

        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_collection_modifyitems(items):
            result = yield
            items.sort(key=lambda item: ["test_size", "test_own", "test_weights"].index(item.originalname))
            return result
    """)
    source = """
        def test_size(cell, settle):
            settle(cell.judge("size"))

        def test_own():
            pass

        def test_weights(cell):
            assert cell.samples("weights").tensors
    """
    result = suite(source, "-k", "Tiny-int4 or own", "--recipe", "int4-rtn")
    result.assert_outcomes(passed=3, deselected=result.parseoutcomes().get("deselected", 0))
    record = json.loads((pytester.path / "results" / "Tiny_4bit_rtn.json").read_text())
    assert record["weights"] is not None
    assert len(record["verdicts"]) == 1
