"""The hooks as a stranger uses them: by a conftest, in a session that pytester runs on Tiny."""

import inspect
import json

import pytest
from gates import GATE

from pytest_quantbench.plugin import hookspecs

SPECS = {name: made for name, made in vars(hookspecs).items() if name.startswith("pytest_quantbench_")}
CONFTEST = """
import json

WORKER = "main"
told = []


def pytest_configure(config):
    global WORKER
    WORKER = getattr(config, "workerinput", {}).get("workerid", "main")


def pytest_quantbench_verdict(nodeid, cell, verdict, test_report):
    kept = [nodeid, cell, type(verdict).__name__, verdict.outcome, test_report.when, len(getattr(verdict, "looks", ()))]
    told.append(["verdict", WORKER, *kept])


def pytest_quantbench_record(record, path):
    told.append(["record", WORKER, record.recipe, path.name, [each.metric for each in record.verdicts]])


def pytest_quantbench_report(config, records, paths, directory):
    told.append(["report", WORKER, [each.recipe for each in records], [each.name for each in paths], directory.name])
    (config.rootpath / f"told-{WORKER}.json").write_text(json.dumps(told))
    return ["a line of their own"]
"""
TESTS = """
import pytest

@pytest.mark.parametrize("limit", [90.0, 10.0])
def test_size(cell, settle, limit):
    settle(cell.judge("size", limit))

def test_two(cell, settle):
    settle(cell.judge("size", 20.0))
    settle(cell.judge("perplexity"))

def test_all(suite, settle):
    settle(suite)
"""
QUICK = ("-k", "Tiny", "-m", "int4", "--fixed")


def told(pytester):
    (file,) = pytester.path.glob("told-*.json")
    return json.loads(file.read_text())


def test_each_event_is_told_once_with_what_it_is_of(suite, pytester):
    pytester.makeconftest(CONFTEST)
    result = suite(TESTS, *QUICK)
    result.assert_outcomes(passed=3, failed=1)
    found = told(pytester)
    verdicts = [each[2:] for each in found if each[0] == "verdict"]
    at = "test_gate.py::test_{}[Tiny-int4{}]".format
    assert [each[:5] for each in verdicts] == [
        [at("size", "-90.0"), "Tiny-int4", "Verdict", "fail", "call"],
        [at("size", "-10.0"), "Tiny-int4", "Verdict", "pass", "call"],
        [at("two", ""), "Tiny-int4", "Verdict", "pass", "call"],
        [at("two", ""), "Tiny-int4", "Verdict", "pass", "call"],
        ["test_gate.py::test_all[int4]", None, "SuiteVerdict", "informational", "call"],
    ]
    assert verdicts[3][5] == 1  # the looks of T2 came along
    assert [each[2:4] for each in found if each[0] == "record"] == [
        ["int4", "Tiny_4bit.json"],
        ["bf16", "Tiny_16bit.json"],
    ]
    report = ["report", "main", ["bf16", "int4"], ["Tiny_16bit.json", "Tiny_4bit.json"], "results"]
    assert found[-1] == report
    assert sum(each[0] == "report" for each in found) == 1
    result.stdout.fnmatch_lines(["*= quantbench =*", "report: *", "a line of their own"])


def test_a_record_that_only_the_end_of_a_session_writes_is_told_too(suite, pytester):
    """After ctrl-c the record is written while pytest tears down, behind the last report."""
    pytester.makeconftest(CONFTEST)
    result = suite(
        "import pytest\ndef test_size(cell, settle):\n    settle(cell.judge('size'))\n    pytest.exit('enough')", *QUICK
    )
    assert "enough" in result.stdout.str()
    assert [each[:4] for each in told(pytester)] == [
        ["record", "main", "int4", "Tiny_4bit.json"],
        ["report", "main", ["int4"], ["Tiny_4bit.json"]],
    ]


def test_a_record_that_cannot_be_read_is_a_note_and_the_others_are_told(suite, pytester):
    """As it is where a worker of pytest-xdist runs on another computer."""
    pytester.makeconftest(CONFTEST)
    lost = """
        from pytest_quantbench.plugin.run import run_of

        def test_lost(cell, quantbench_run, request):
            run_of(request.config).written.append(quantbench_run.settings.results / "elsewhere.json")
    """
    result = suite(GATE + pytest.importorskip("textwrap").dedent(lost), *QUICK)
    result.assert_outcomes(passed=2)
    assert [each[2] for each in told(pytester) if each[0] == "record"] == ["int4"]
    result.stdout.fnmatch_lines(["note: no hook was told of a record: *elsewhere.json is no record*"])


@pytest.mark.slow
def test_under_xdist_the_controller_is_told_and_no_worker(pytester):
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_gate=TESTS)
    arguments = ("-n", "2", "--qb-calibration", "none", "-p", "no:cacheprovider", "-W", "ignore")
    result = pytester.runpytest_subprocess(*QUICK, *arguments)
    result.assert_outcomes(passed=2, failed=1, skipped=1)  # no worker sees all models
    found = told(pytester)
    assert {each[1] for each in found} == {"main"}
    verdicts = [each[2:7] for each in found if each[0] == "verdict"]
    assert sorted(each[3] for each in verdicts) == ["fail", "pass", "pass", "pass"]
    assert {each[1] for each in verdicts} == {"Tiny-int4"}
    assert {each[3] for each in found if each[0] == "record"} == {"Tiny_16bit.json", "Tiny_4bit.json"}
    assert found[-1][0] == "report"
    assert found[-1][2] == ["bf16", "int4"]
    result.stdout.fnmatch_lines(["a line of their own"])


def test_a_function_for_a_hook_that_there_is_not_is_refused(suite, pytester):
    """pytest knows our names: a typing error is one, not silence."""
    pytester.makeconftest("def pytest_quantbench_verdicts(verdict):\n    pass")
    result = suite(GATE, *QUICK)
    assert result.ret == pytest.ExitCode.USAGE_ERROR or "unknown hook" in result.stderr.str() + result.stdout.str()


@pytest.mark.parametrize("name", SPECS)
def test_a_hooks_docstring_names_each_of_its_arguments(name):
    for argument in inspect.signature(SPECS[name]).parameters:
        assert f":param {argument}:" in SPECS[name].__doc__
