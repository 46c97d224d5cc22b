"""In a workflow: what stands in the log for GitHub to find, and in the file of the job summary."""

import pytest
from gates import GATE

TESTS = """
    import dataclasses

    import pytest

    @pytest.mark.parametrize("limit", [90.0, 10.0])
    def test_size(cell, settle, limit):
        settle(cell.judge("size", limit))

    def test_open(cell, settle):
        settle(dataclasses.replace(cell.judge("size"), outcome="undecided", sentence="50 % so.", needed="more"))
"""
QUICK = ("-k", "Tiny", "-m", "int4")


@pytest.fixture
def workflow(monkeypatch, tmp_path, pytester):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(pytester.path))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    return tmp_path / "summary.md"


def commands(result):
    return [line for line in result.outlines if line.startswith("::")]


def test_failed_and_undecided_are_annotated_at_their_tests(suite, workflow):
    workflow.write_text("of a step before\n")
    found = commands(suite(TESTS, *QUICK))
    fail, undecided = found
    assert fail.startswith("::error file=test_gate.py,line=5,title=Tiny-int4::fail: size reduction vs BF16 71.7 %25, ")
    assert undecided == "::warning file=test_gate.py,line=9,title=Tiny-int4::undecided: 50 %25 so. More."
    told = workflow.read_text()
    assert told.startswith("of a step before\n## Quantization\n")
    assert "| Tiny-int4 | may not ship | 4.51 | ✗ 71.7" in told


def test_what_fails_the_run_is_an_error(suite, workflow):
    found = commands(suite(TESTS, *QUICK, "--undecided=fail"))
    assert [line.partition(" ")[0] for line in found] == ["::error", "::error"]


def test_a_model_that_cannot_be_measured_is_an_error(suite, workflow, small_model):
    directory = small_model()
    (directory / "model.safetensors").write_bytes(b"nothing")
    (error,) = commands(suite(GATE, "--model", str(directory), "-k", "llama-0-0", "-m", "int4"))
    assert "title=llama-0-0-int4::ModelError: " in error


def test_a_test_outside_the_checkout_has_no_place(suite, workflow, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "elsewhere"))
    assert commands(suite(TESTS, *QUICK))[0].startswith("::error title=Tiny-int4::fail: ")


def test_elsewhere_nothing_is_printed(suite, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    assert commands(suite(TESTS, *QUICK)) == []


def test_a_summary_that_cannot_be_written_is_a_sentence(suite, workflow, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    result = suite(GATE, *QUICK)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["GITHUB_STEP_SUMMARY=* cannot be written (Is a directory): this run has no job *"])


def test_junit_has_the_figures_of_each_item(suite, pytester):
    from xml.etree import ElementTree

    suite(TESTS, *QUICK, "--junitxml=junit.xml")
    cases = {case.get("name"): case for case in ElementTree.parse(pytester.path / "junit.xml").iter("testcase")}
    assert set(cases) == {"test_size[Tiny-int4-90.0]", "test_size[Tiny-int4-10.0]", "test_open[Tiny-int4]"}
    told = {each.get("name"): each.get("value") for each in cases["test_size[Tiny-int4-90.0]"].iter("property")}
    assert told["quantbench_outcome"] == "fail"
    assert told["quantbench_metric"] == "size_reduction_percent"
    assert float(told["quantbench_limit"]) == 90.0
    assert float(told["quantbench_estimate"]) == float(told["quantbench_low"]) == pytest.approx(71.7, abs=0.1)
    assert cases["test_size[Tiny-int4-90.0]"].find("failure").get("message") == f"fail: {told['quantbench_sentence']}"


def test_badges_lie_beside_the_records_and_are_none(suite, pytester):
    from pytest_quantbench.record.folder import read_all

    suite(GATE, *QUICK).stdout.fnmatch_lines(["badges: *"])
    names = {file.name for file in (pytester.path / "results/badges").iterdir()}
    assert names == {"quantbench.svg", "quantbench.json", "Tiny.svg", "Tiny.json"}
    assert len(read_all(pytester.path / "results")) == 1


def test_badges_that_cannot_be_written_are_a_sentence(suite, pytester):
    (pytester.path / "results").mkdir()
    (pytester.path / "results/badges").write_text("")
    result = suite(GATE, *QUICK)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["DiskError: Cannot write *badges*"])
