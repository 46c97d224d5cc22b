import json
import logging

import pytest
from gates import CHECKS, GATE

from pytest_quantbench.plugin.summary import Notices


def test_records_report_and_plot_are_written_and_named(suite, pytester):
    result = suite(GATE, "-k", "Tiny", "-m", "int4 or int3", "--results", "out")
    result.assert_outcomes(passed=2)
    names = {path.name for path in (pytester.path / "out").iterdir()}
    assert {"Tiny_4bit.json", "Tiny_3bit.json", "Tiny_4bit.npz", "combined.json", "benchmark_int_quant.md"} <= names
    record = json.loads((pytester.path / "out" / "Tiny_4bit.json").read_text())
    assert record["verdicts"][0]["outcome"] == "pass"
    (command,) = record["commands"]
    assert command.startswith("pytest ")
    assert command.endswith("-k Tiny -m 'int4 or int3' --results out")
    told = "Two cells are undecided: Tiny-int4 and Tiny-int3. Each meets *"
    result.stdout.fnmatch_lines([told, "  int4 * -71.7%✓ * undecided", "records: *out*"])


def test_a_second_run_takes_what_the_first_measured_and_says_so(suite, pytester, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(pytester.path / "cache"))
    arguments = ("-k", "Tiny", "-m", "int4", "--recipe", "int4-rtn", "--tokens", "512", "--fixed")
    said = "measured in earlier sessions and taken from there (--fresh measures it again): *T2 of Tiny-int4-rtn*"
    results, outputs = [], []
    for more in ((), (), ("--fresh",)):
        result = suite(CHECKS, *arguments, *more)
        result.assert_outcomes(passed=1)
        record = json.loads((pytester.path / "results" / "Tiny_4bit_rtn.json").read_text())
        results.append(record["perplexity"] | {"time_sec": None})
        outputs.append(result.stdout)
    outputs[1].fnmatch_lines([said])
    for first in (outputs[0], outputs[2]):
        first.no_fnmatch_line(said)
    assert results[0] == results[1] == results[2]


@pytest.mark.slow
def test_what_was_warned_of_is_said_at_the_end(suite, pytester, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(pytester.path / "cache"))
    arguments = ("-k", "Tiny", "-m", "int4", "--recipe", "int4-rtn", "--tokens", "512", "--fixed")
    suite(CHECKS, *arguments).assert_outcomes(passed=1)
    for path in (pytester.path / "cache").rglob("*"):
        if path.suffix in (".samples", ".safetensors"):
            path.write_bytes(path.read_bytes()[:-1])
    result = suite(CHECKS, *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: Kept samples were damaged: moved to *", "note: The artifact * damaged*"])


def test_the_report_lies_where_the_project_says(suite, pytester):
    pytester.makepyprojecttoml('[tool.quantbench]\nreport = "docs/quality.md"')
    suite(GATE, "-k", "Tiny", "-m", "int4", "--results", "out").assert_outcomes(passed=1)
    assert (pytester.path / "docs" / "quality.md").is_file()
    assert not (pytester.path / "out" / "benchmark_int_quant.md").exists()


@pytest.mark.parametrize("capture", ["fd", "sys", "no"])
def test_progress_is_seen_though_pytest_captures_what_tests_write(pytester, capture):
    pytester.makepyfile("""
        from pytest_quantbench import progress

        def test_long(cell):
            print("of the test")
            progress.say("half of it")
    """)
    arguments = ("-k", "Tiny-bf16", f"--capture={capture}", "-p", "no:cacheprovider", "-W", "ignore")
    result = pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=1, deselected=54)
    assert "quantbench: half of it" in result.stderr.str()
    assert ("of the test" in result.stdout.str()) == (capture == "no")


def test_warnings_are_kept_once_and_in_order():
    notices = Notices()
    for line in ("first", "second", "first"):
        notices.handle(logging.makeLogRecord({"msg": line, "levelno": logging.WARNING}))
    assert notices.lines == ["first", "second"]
