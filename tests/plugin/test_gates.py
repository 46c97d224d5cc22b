"""Several criteria on one cell, of one test or of several: each is an entry of its own, and none hides another."""

import json
from textwrap import dedent

import pytest
from gates import CHECKS, GATE

from pytest_quantbench.catalog.models import TINY_DIRECTORY

QUICK = ("-k", "Tiny", "-m", "int4", "--recipe", "int4-rtn", "--tokens", "256", "--fixed")
STRICT, LAX = -5.0, 50.0  # perplexity points: surely missed, and surely met
# By check: surely missed and surely met, what a verdict is of, and its row in the report's last table.
GATES = {
    "size": (99.0, 10.0, "", "size"),
    "perplexity": (STRICT, LAX, "tiny-heldout", "perplexity on tiny-heldout"),
}
GATE_AT = """
    import pytest

    @pytest.mark.{mark}
    def test_gate(cell, settle):
        settle(cell.judge("{check}", {limit}))
"""
BOTH_CHECKS = pytest.mark.parametrize("check", ["size", pytest.param("perplexity", marks=pytest.mark.slow)])
BOTH_ORDERS = pytest.mark.parametrize("strict_first", [True, False])


def record_of(pytester):
    return json.loads((pytester.path / "results" / "Tiny_4bit_rtn.json").read_text())


def told(pytester):
    return [(each["of"], each["limit"], each["given"], each["outcome"]) for each in record_of(pytester)["verdicts"]]


def assert_both_stand(pytester, check):
    strict, lax, of, row = GATES[check]
    assert told(pytester) == sorted([(of, strict, True, "fail"), (of, lax, True, "pass")])
    report = (pytester.path / "results" / "benchmark_int_quant.md").read_text().replace("\u00a0", " ")
    rows = [line for line in report.splitlines() if line.startswith(f"| Tiny-int4-rtn | {row} |")]
    for limit, outcome in ((strict, "fail"), (lax, "pass")):
        assert any(f" {limit:g}" in line.replace("\u2212", "-") and f"| {outcome} " in line for line in rows)
    assert "Tiny-int4-rtn may not ship" in report


def gates(check, *, strict_first):
    strict, lax, *_ = GATES[check]
    limits = (strict, lax) if strict_first else (lax, strict)
    return [
        GATE_AT.format(mark={"size": "size", "perplexity": "t2"}[check], check=check, limit=limit) for limit in limits
    ]


@BOTH_ORDERS
@BOTH_CHECKS
def test_two_gates_in_one_file_both_stand_in_the_record_and_in_the_tables(suite, pytester, check, strict_first):
    first, second = map(dedent, gates(check, strict_first=strict_first))
    suite(first + second.replace("test_gate", "test_next"), *QUICK).assert_outcomes(passed=1, failed=1)
    assert_both_stand(pytester, check)


@BOTH_ORDERS
@BOTH_CHECKS
def test_two_gates_in_two_files_both_stand(suite, pytester, check, strict_first):
    first, second = gates(check, strict_first=strict_first)
    pytester.makepyfile(test_a=first, test_b=second)
    suite("", *QUICK).assert_outcomes(passed=1, failed=1)
    assert_both_stand(pytester, check)


@BOTH_ORDERS
@BOTH_CHECKS
def test_two_gates_both_stand_when_a_session_that_was_stopped_is_resumed(suite, pytester, check, strict_first):
    first, second = gates(check, strict_first=strict_first)
    pytester.makepyfile(test_a=first, test_b=second)
    suite("", *QUICK, "-x").assert_outcomes(failed=1, passed=int(not strict_first))
    again = suite("", *QUICK)
    again.assert_outcomes(passed=1, failed=1)
    if check == "perplexity":
        again.stdout.fnmatch_lines(["*T2 of Tiny-int4-rtn*"])  # taken from the first session
    assert_both_stand(pytester, check)


@pytest.mark.slow
@pytest.mark.parametrize("distribution", ["load", "loadgroup"])
@BOTH_ORDERS
@pytest.mark.parametrize("check", list(GATES))
def test_two_gates_both_stand_under_xdist_whichever_worker_writes_last(pytester, check, strict_first, distribution):
    first, second = gates(check, strict_first=strict_first)
    pytester.makepyfile(test_a=first, test_b=second)
    arguments = ("-n", "2", "--dist", distribution, "-p", "no:cacheprovider", "-W", "ignore", "--calibration", "none")
    result = pytester.runpytest_subprocess("-p", "pytest_quantbench.plugin.short_options", *QUICK, *arguments)
    outcomes = result.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (1, 1)
    assert_both_stand(pytester, check)


@pytest.fixture
def other(pytester):
    """A second text."""
    file = pytester.path / "other.txt"
    file.write_text((TINY_DIRECTORY / "heldout.txt").read_text()[20_000:60_000])
    return ("--corpus", "tiny-heldout", "--corpus", str(file))


@pytest.mark.slow
def test_a_text_with_an_option_of_its_own_is_judged_beside_the_first(suite, pytester, other):
    limits = (f"--max-ppl-delta={LAX}", f"--max-ppl-delta=other.txt={STRICT}")
    result = suite(CHECKS, *QUICK, *other, *limits)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["fail: perplexity delta vs BF16 *, limit < -5 (* windows of other.txt).*"])
    assert told(pytester) == [("other.txt", STRICT, False, "fail"), ("tiny-heldout", LAX, False, "pass")]
    report = (pytester.path / "results" / "benchmark_int_quant.md").read_text()
    assert any("perplexity on other.txt" in line and "fail" in line for line in report.splitlines())
    met = suite(CHECKS, *QUICK, *other, f"--max-ppl-delta=other.txt={LAX}", f"--max-ppl-delta={LAX}")
    met.assert_outcomes(passed=1)
    assert [outcome for *_, outcome in told(pytester)] == ["pass", "pass"]


def test_a_limit_that_no_test_judges_by_is_told(suite, pytester, other):
    """A gate that asks for the first text alone."""
    source = GATE_AT.format(mark="t2", check="perplexity", limit=LAX)
    result = suite(dedent(source), *QUICK, *other, f"--max-ppl-delta=other.txt={STRICT}")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["note: Tiny-int4-rtn has limits on the perplexity delta vs BF16 of other.txt, which no test has judged: *"]
    )
    assert "no test has judged" not in suite(CHECKS, *QUICK, *other, f"--max-ppl-delta=other.txt={LAX}").stdout.str()


def test_a_task_and_a_text_have_limits_in_pyproject(suite, pytester, other):
    pytester.makepyprojecttoml(f"""
        [tool.quantbench.criteria.int4]
        perplexity_delta = {LAX}
        "perplexity_delta.other.txt" = {STRICT}
        "perplexity_delta.elsewhere.txt" = {STRICT}
        accuracy_drop_points = 40
        "accuracy_drop_points.tiny_endings" = -90
    """)
    source = CHECKS + '\n@pytest.mark.t3\ndef test_accuracy(cell, settle):\n    settle(cell.judge_all("accuracy"))\n'
    result = suite(source, *QUICK, *other, "--limit", "20")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "fail: perplexity delta vs BF16 *windows of other.txt*",
            "fail: accuracy drop * points, limit < -90 points (tiny_endings *",
            "note: Tiny is not judged by the limit on the perplexity delta vs BF16 of elsewhere.txt, which*",
        ]
    )
    assert [(of, outcome) for of, *_, outcome in told(pytester)] == [
        ("other.txt", "fail"),
        ("tiny-heldout", "pass"),
        ("tiny_endings", "fail"),
        ("tiny_facts", "pass"),
    ]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "--max-ppl-delta=c4=0.8",
            "*text c4, which this session does not measure; its texts are tiny-heldout.*",
        ),
        (
            "--max-accuracy-drop=mmlu=2",
            "*task mmlu, which*its tasks are tiny_facts, tiny_endings. Add it with *",
        ),
        ("--max-ppl-delta=c4=", "*--max-ppl-delta c4=: give a number.*"),
        ("--max-ppl-delta==1", "*give a number, or NAME=NUMBER, such as c4=0.8.*"),
        ("--min-reduction=much", "*--min-reduction much: give a number.*"),
    ],
)
def test_a_limit_on_what_is_not_measured_is_a_usage_error(suite, option, message):
    result = suite(CHECKS, "-p", "pytest_quantbench.plugin.short_options", *QUICK, option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_size_has_an_option_and_the_reference_is_not_judged_by_it(suite, pytester):
    result = suite(GATE, "-k", "Tiny and (bf16 or int4)", "--recipe", "int4-rtn", "--min-reduction", "99", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Tiny-bf16* PASSED*", "fail: size reduction vs BF16 *, limit ≥ 99 %."])
    suite(GATE, *QUICK, "--min-reduction", "10").assert_outcomes(passed=1)
    assert [limit for _, limit, *_ in told(pytester)] == [10.0]


SEVERAL = """
    import dataclasses

    def test_it(cell, settle):
        verdict = cell.judge("size")
        settle([dataclasses.replace(verdict, outcome=each, sentence=f"It is {{each}}.") for each in {outcomes}])
"""


def test_an_item_with_several_verdicts_is_as_the_worst_and_tells_each_that_did_not_pass(suite):
    result = suite(SEVERAL.format(outcomes=["pass", "undecided", "fail", "anomalous", "fail"]), *QUICK)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "fail: It is fail.",
            "fail: It is fail.",
            "anomalous: It is anomalous.",
            "undecided: It is undecided.",
        ],
        consecutive=True,
    )
    assert "It is pass" not in result.stdout.str()


@pytest.mark.parametrize(("outcomes", "word"), [(["pass", "undecided"], "undecided"), (["pass"] * 2, "passed")])
def test_several_verdicts_that_do_not_fail_are_the_worst_of_them(suite, outcomes, word):
    assert suite(SEVERAL.format(outcomes=outcomes), *QUICK).parseoutcomes()[word] == 1


def test_criteria_of_another_sessions_candidate_are_told_and_a_typo_with_what_it_may_mean(suite, pytester):
    pytester.makepyprojecttoml("""
        [tool.quantbench.criteria.q4]
        size_reduction_percent = 99
        [tool.quantbench.criteria.Tny]
        size_reduction_percent = 99
    """)
    result = suite(GATE, *QUICK)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["note: [[]tool.quantbench.criteria[]]: no model, recipe or candidate of this session is called q4, Tny*"]
    )
