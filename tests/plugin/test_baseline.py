"""`--baseline`: a session is held against the records of an earlier one, besides its criteria."""

import json
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from gates import GATE
from planted import RECIPE, write_method

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.quantizers import registry
from pytest_quantbench.record import folder
from pytest_quantbench.record.folder_comparison import compare
from pytest_quantbench.record.schema import read

CELL = ("-k", "Tiny-int4-rtn", "--recipe", "int4-rtn")
ALL = """
import pytest

@pytest.mark.parametrize("check", ["size", "perplexity", "accuracy"])
def test_it(cell, settle, check):
    settle(cell.judge(check))
"""
QUICK = ("--tokens", "512", "--fixed", "--limit", "200", "-m", "int4")


@pytest.fixture
def earlier(suite, pytester):
    """The results of an earlier run of GATE."""
    suite(GATE, *CELL, "--results", "earlier").assert_outcomes(passed=1)
    return pytester.path / "earlier"


def smaller(directory):
    """As if the earlier run's artifact had been smaller by a tenth."""
    (path,) = directory.glob("Tiny*.json")
    record = read(path)
    size = replace(record.compression, compressed_gb=0.9 * record.compression.compressed_gb)
    path.unlink()
    folder.save(replace(record, compression=size), {}, directory)


def test_an_equal_run_passes_and_the_summary_and_the_record_say_so(suite, pytester, earlier):
    result = suite(GATE, *CELL, "--baseline", "earlier", "--results", "now")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["baseline *earlier:", "  No regression in 1 figure of 1 cell: all samples are the same to the last bit."]
    )
    (verdict,) = json.loads(next((pytester.path / "now").glob("Tiny*.json")).read_text())["verdicts"]
    assert [change["word"] for change in verdict["baseline"]] == ["identical"]


def test_a_regression_fails_the_item_of_its_check_though_the_criterion_is_met(suite, pytester, earlier, monkeypatch):
    smaller(earlier)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(pytester.path / "summary.md"))
    result = suite(GATE, *CELL, "--qb-baseline", "earlier", "--results", "now", "--junitxml=junit.xml")
    result.assert_outcomes(failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "regression against the baseline *earlier: size +11.11 % (*): worse.",
            "baseline *earlier:",
            "  1 regression in 1 figure of 1 cell:",
        ]
    )
    (verdict,) = json.loads(next((pytester.path / "now").glob("Tiny*.json")).read_text())["verdicts"]
    assert (verdict["outcome"], verdict["baseline"][0]["word"]) == ("pass", "regression")
    (error,) = [line for line in result.outlines if line.startswith("::")]
    assert re.match(r"::error .*title=Tiny-int4-rtn::regression against the baseline .*: size \+11.11 %25", error)
    told = "Tiny-int4-rtn may not ship: since its baseline it got worse: size +11.11 %"
    assert f"- {told}" in (pytester.path / "summary.md").read_text()
    assert told in " ".join(result.outlines)
    assert '"quantbench_baseline" value="regression"' in (pytester.path / "junit.xml").read_text()
    assert json.loads((pytester.path / "now/badges/Tiny.json").read_text())["color"] == "red"


def test_a_cell_without_a_record_there_is_named(suite, earlier):
    result = suite(
        GATE,
        "-k",
        "Tiny-int4-rtn or Tiny-int3",
        "--recipe",
        "int4-rtn",
        "--recipe",
        "int3-rtn",
        "--baseline",
        "earlier",
    )
    result.assert_outcomes(passed=2)
    printed = " ".join(result.stdout.str().split())
    assert "No regression in 1 figure of 2 cells; 1 figure could not be compared." in printed
    assert "Tiny-int3-rtn: size: no record of Tiny-int3-rtn in the baseline" in printed


ONE_TEXT = """
import pytest

@pytest.mark.t2
def test_perplexity(cell, settle):
    settle(cell.judge("perplexity", of="other.txt", limit=50))
"""


def damage_one(path):
    path.write_bytes(path.read_bytes()[:100])


def rename_one(path):
    path.rename(path.with_name("Other_4bit_rtn.json"))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [(damage_one, "Tiny_4bit_rtn cannot be read"), (rename_one, "it has none of Tiny_4bit_rtn")],
)
def test_a_baseline_without_a_readable_record_of_any_cell_is_refused_before_anything_runs(suite, earlier, spoil, told):
    spoil(next(earlier.glob("Tiny*.json")))
    result = suite(GATE, *CELL, "--baseline", "earlier", "--results", "now")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*holds no readable record of any selected cell: {told}. Give the results *"])


def test_where_nothing_of_a_cell_can_be_compared_the_session_fails_though_its_items_pass(suite, earlier):
    (path,) = earlier.glob("Tiny*.json")
    record = replace(read(path), source_sha256="bb")  # of another original
    path.unlink()
    folder.save(record, {}, earlier)
    result = suite(GATE, *CELL, "--baseline", "earlier", "--results", "now")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*Nothing could be compared*", "Nothing of Tiny-int4-rtn could be compared with the baseline: the run fails."]
    )


def test_a_cell_whose_record_alone_is_damaged_fails_the_session(suite, pytester):
    cells = ("-k", "Tiny-int4-rtn or Tiny-int3-rtn", "--recipe", "int4-rtn", "--recipe", "int3-rtn")
    suite(GATE, *cells, "--results", "earlier").assert_outcomes(passed=2)
    damage_one(pytester.path / "earlier" / "Tiny_3bit_rtn.json")
    result = suite(GATE, *cells, "--baseline", "earlier", "--results", "now")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["Nothing of Tiny-int3-rtn could be compared with the baseline: the run fails."])


def better_text(directory, part):
    """As if the earlier run had lost less on one text, a little at every token."""
    (path,) = directory.glob("Tiny_4bit_rtn.json")
    record = read(path)
    arrays = folder.read_arrays(record, directory)
    arrays[f"{part}/nll_nats"] = arrays[f"{part}/nll_nats"] - np.float32(0.05)
    path.unlink()
    folder.save(record, arrays, directory)


@pytest.mark.slow
def test_a_gate_on_another_text_alone_is_held_against_the_baseline(suite, pytester):
    (pytester.path / "other.txt").write_text((TINY_DIRECTORY / "heldout.txt").read_text()[20_000:60_000])
    corpora = ("--corpus", "tiny-heldout", "--corpus", "other.txt", "--tokens", "512", "--fixed")
    suite(ONE_TEXT, *CELL, *corpora, "--results", "earlier").assert_outcomes(passed=1)
    better_text(pytester.path / "earlier", "perplexity/other.txt")
    result = suite(ONE_TEXT, *CELL, *corpora, "--baseline", "earlier", "--results", "now")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*regression against the baseline *earlier: perplexity of other.txt *worse*"])
    (verdict,) = read(pytester.path / "now" / "Tiny_4bit_rtn.json").verdicts
    assert [each.word for each in verdict.baseline].count("identical") == 3  # the first text, and both divergences


def test_of_several_gates_of_one_check_one_tells_of_all_its_figures(suite, pytester):
    gates = GATE + "    settle(cell.judge('size', limit=10))\n"
    suite(gates, *CELL, "--results", "earlier").assert_outcomes(passed=1)
    smaller(pytester.path / "earlier")
    result = suite(gates, *CELL, "--baseline", "earlier", "--results", "now")
    result.stdout.fnmatch_lines(["*1 regression in 1 figure of 1 cell:"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--baseline", "nowhere"),
            "--baseline *nowhere: there is no such folder. Give the results of an earlier run.",
        ),
        (("--baseline", "."), "--baseline * holds no records. Give the results of an earlier run."),
        (
            ("--baseline", "earlier", "--results", "earlier"),
            "--baseline *earlier: this is the folder that results go to*",
        ),
    ],
)
def test_a_wrong_baseline_is_refused_before_anything_runs(suite, pytester, arguments, told):
    (pytester.path / "earlier").mkdir()
    (pytester.path / "earlier" / "Tiny_4bit.json").write_text("{}")
    result = suite(GATE, *CELL, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{told}"])


@pytest.mark.slow
def test_a_layer_of_two_bits_is_found_by_the_session_and_by_compare_and_an_equal_rerun_is_not(
    suite, pytester, monkeypatch
):
    """Somebody changes a method; its next version spoils one layer. Then equal runs, with a cache of their own."""
    monkeypatch.setenv("PYTHONPATH", str(pytester.path))
    monkeypatch.syspath_prepend(pytester.path)
    arguments = (*QUICK, "--recipe", RECIPE, "-k", "Tiny")

    def run(name, bits, version, *more):
        write_method(pytester.path, bits=bits, version=version)
        monkeypatch.delitem(sys.modules, "spoiled", raising=False)
        registry.get.cache_clear()  # as another process has it
        monkeypatch.setenv("QUANTBENCH_CACHE", str(pytester.path / f"cache-{name}"))
        found = suite(ALL, *arguments, "--results", name, *more)
        shutil.rmtree(pytester.path / f"cache-{name}")
        return found

    run("base", 4, 1).assert_outcomes(passed=3)
    base = pytester.path / "base"
    for repeat in range(2):
        run(f"equal{repeat}", 4, 1, "--baseline", "base", "--fresh").assert_outcomes(passed=3)
        found = compare(base, pytester.path / f"equal{repeat}")
        assert found.compared > 0
        assert not found.regressions
    result = run("spoiled", 2, 2, "--baseline", "base")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*regression against the baseline *base: KL divergence +*"])
    found = compare(base, pytester.path / "spoiled")
    assert {change.metric for _, change in found.regressions} >= {"kl"}
    assert all(name == f"Tiny-{RECIPE}" for name, _ in found.regressions)


@pytest.mark.slow
def test_under_xdist_the_same_is_found_and_said(pytester, suite, earlier):
    smaller(earlier)
    pytester.makepyfile(test_gate=GATE)
    arguments = ("-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider", "-p", "xdist")
    result = pytester.runpytest_subprocess(*arguments, *CELL, "--baseline", "earlier", "--results", "now")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["*regression against the baseline *earlier: size *worse.", "  1 regression in 1 figure*"]
    )
