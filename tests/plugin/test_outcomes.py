from gates import CHECKS, GATE


def test_pass_fail_and_undecided_have_outcomes_of_their_own(suite, pytester):
    source = """
        import pytest

        @pytest.mark.parametrize("limit", [90.0, 10.0])
        def test_size(cell, settle, limit):
            settle(cell.judge("size", limit))

        def test_perplexity(cell, settle):
            delta = cell.judge("perplexity").estimate
            settle(cell.judge("perplexity", delta + 0.01))
    """
    result = suite(source, "-k", "Tiny", "-m", "int3", "-rA", "--fixed")
    result.assert_outcomes(passed=1, failed=1)
    assert "1 undecided" in result.outlines[-1]
    result.stdout.fnmatch_lines(
        ["fail: size reduction vs BF16 *, limit ≥ 90 %.", "UNDECIDED test_gate.py::*Tiny-int3* - about * tokens would*"]
    )
    assert "Traceback" not in result.stdout.str()
    strict = suite(source, "-k", "Tiny and perplexity", "-m", "int3", "--undecided=fail", "--fixed")
    strict.assert_outcomes(failed=1)


BETTER = """
    import dataclasses

    import pytest

    @pytest.mark.parametrize("better", [True, False])
    def test_perplexity(cell, settle, better):
        verdict = cell.judge("perplexity")
        settle(dataclasses.replace(verdict, outcome="anomalous" if better else "pass", sentence="It is better."))
"""


def test_anomalous_is_an_outcome_of_its_own_too(suite, pytester):
    """Neither green nor red: counted by name, with a letter of its own, and in JUnit's properties."""
    arguments = ("-k", "Tiny", "-m", "int3", "--fixed")
    result = suite(BETTER, *arguments, "--junitxml=junit.xml", "-rA")
    result.assert_outcomes(passed=1)
    assert "1 anomalous" in result.outlines[-1]
    assert 'value="anomalous"' in (pytester.path / "junit.xml").read_text()
    assert any("a" in line.partition(" ")[2] for line in result.outlines if line.startswith("test_"))
    result = suite(BETTER, *arguments, "-v")
    result.stdout.fnmatch_lines(["*test_perplexity*True* ANOMALOUS*"])
    strict = suite(BETTER, *arguments, "--undecided=fail")
    strict.assert_outcomes(passed=1, failed=1)
    strict.stdout.fnmatch_lines(["anomalous: It is better."])


def test_an_error_in_one_cell_is_one_sentence_and_the_others_go_on(suite, pytester, small_model):
    directory = small_model()
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    result = suite(GATE, "--model", str(directory), "-k", "llama-0-0 or Tiny", "-m", "int4")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["ModelError: *model.safetensors is truncated or corrupt*"])
    assert "Traceback" not in result.stdout.str()
    assert (pytester.path / "results" / "Tiny_4bit.json").is_file()


def test_a_model_that_is_refused_is_told_of_once_and_other_items_name_the_one(suite, small_model, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    directory = small_model()
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    source = GATE + CHECKS.replace("import pytest", "") + "\ndef test_mine(cell): raise KeyError('lm_head')"
    result = suite(source, "--model", str(directory), "-k", "llama-0-0", "-m", "int4")
    result.assert_outcomes(failed=3)
    assert result.stdout.str().count("is truncated or corrupt") == 2  # where it failed, and in the short summary
    first = "test_size[[]llama-0-0-int4[]]"
    result.stdout.fnmatch_lines(
        [
            "ModelError: *model.safetensors is truncated or corrupt*",
            f"ModelError, as with {first}",
            f"FAILED test_gate.py::{first} - ModelError: *",
            f"FAILED test_gate.py::test_perplexity[[]llama-0-0-int4[]] - ModelError, as with {first}",
            "FAILED test_gate.py::test_mine[[]llama-0-0-int4[]] - KeyError: 'lm_head'",
        ]
    )


def test_two_cells_that_fail_alike_are_both_told_why(suite):
    source = """
        def test_size(cell, settle):
            verdict = cell.judge("size", 99.0)
            settle(__import__("dataclasses").replace(verdict, sentence="It is too large."))
    """
    result = suite(source, "-k", "Tiny", "-m", "int4 or int3")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["FAILED *Tiny-int4* - fail: It is too large.", "FAILED *Tiny-int3* - fail: It is*"])


def test_offline_says_what_is_lacking(suite, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    result = suite(GATE, "--offline", "-k", "Llama-3.1", "-m", "int4")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["OfflineError: meta-llama/Llama-3.1-8B-Instruct is not in the Hub's cache*--model DIRECTORY*"]
    )


BROKEN_END = """
import pytest
from pytest_quantbench.bench.cell import Cell

def broken(self):
    if self.target.model.name == "Tiny":
        raise KeyError("lm_head")
    return record(self)

record, Cell.record = Cell.record, broken

@pytest.mark.size
def test_size(cell, settle):
    settle(cell.judge("size"))
"""


def test_what_goes_wrong_at_the_end_of_a_model_is_told_with_its_own_last_item(suite, small_model, monkeypatch):
    from pytest_quantbench.bench.cell import Cell

    monkeypatch.setattr(Cell, "record", Cell.record)  # put back after the suite has changed it
    directory = small_model()
    result = suite(BROKEN_END, "-k", f"Tiny or {directory.name}", "-m", "int4", "--model", str(directory), "-v")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_size[[]Tiny-int4[]]*"])
    assert "ERROR at setup" not in result.stdout.str()
