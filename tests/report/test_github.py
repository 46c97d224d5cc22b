import re

import pytest
from builders import make_change, make_record, make_verdict
from generated_suite import records as generated
from hypothesis import given
from hypothesis import strategies as st

from pytest_quantbench.catalog.criteria import asked_of
from pytest_quantbench.report import github

ASKED = asked_of("weights")

BACK = {"%3A": ":", "%2C": ",", "%0A": "\n", "%0D": "\r", "%25": "%"}


def unescaped(text):
    return re.sub("|".join(BACK), lambda one: BACK[one[0]], text)


def parsed(line):
    """A workflow command as GitHub's runner takes it apart: its properties end at the second `::`."""
    head, _, message = line[2:].partition("::")
    level, _, rest = head.partition(" ")
    properties = dict(each.split("=", 1) for each in rest.split(","))
    return level, {name: unescaped(value) for name, value in properties.items()}, unescaped(message)


def test_an_annotation_is_one_line_with_its_place():
    line = github.annotation("error", "76.9 %, limit ≥ 90 %.\nSecond: line", "Tiny-int4 fail", "tests/a.py", 7)
    assert line == ("::error file=tests/a.py,line=7,title=Tiny-int4 fail::76.9 %25, limit ≥ 90 %25.%0ASecond: line")


def test_without_a_file_there_is_no_line_either():
    assert github.annotation("warning", "m", "t", None, 7) == "::warning title=t::m"


@given(st.text(), st.text(min_size=1), st.text(min_size=1), st.integers(1, 10**6))
def test_whatever_is_said_comes_back_out_of_the_command(message, title, file, line):
    written = github.annotation("error", message, title, file, line)
    assert "\n" not in written
    assert "\r" not in written
    told = {"file": file, "line": str(line), "title": title}
    assert parsed(written) == ("error", told, message)


@pytest.mark.parametrize(("errors", "warnings"), [(0, 3), (10, 10), (11, 2), (500, 11)])
def test_as_many_annotations_as_github_shows_and_the_last_says_how_many_more(errors, warnings):
    told = [github.annotation("error", f"e{n}", "t") for n in range(errors)]
    told += [github.annotation("warning", f"w{n}", "t") for n in range(warnings)]
    kept = github.shown(told)
    for level, count in {"error": errors, "warning": warnings}.items():
        mine = [line for line in kept if line.startswith(f"::{level} ")]
        assert len(mine) == min(count, 10)
        if count > 10:
            assert mine[-1].endswith(f"::And {count - 9} more, which the job summary and the log have.")
        else:
            assert mine == [line for line in told if line.startswith(f"::{level} ")]


def test_a_summary_has_a_row_for_each_cell_and_says_why_checks_failed():
    found = [
        make_record(verdicts=(make_verdict("size_reduction_percent", estimate=71.7, low=71.7, high=71.7),)),
        make_record(
            recipe="int3|x",
            level="int3",
            bits=3,
            verdicts=(
                make_verdict("perplexity_delta", "fail", estimate=3.25, low=2.5, high=4.0, sentence="1 < 2 & so."),
            ),
        ),
    ]
    lines = github.summary(found).splitlines()
    assert "| Tiny-int4 | undecided | – | ✓ 71.7 | – | – | – |" in lines
    assert "| Tiny-int3\\|x | may not ship | – | – | ✗ 3.25 [2.5, 4] | – | – |" in lines
    assert "- Tiny-int3|x fail: 1 &lt; 2 &amp; so." in lines
    assert lines.index("</details>") > lines.index("- Tiny-int3|x fail: 1 &lt; 2 &amp; so.")


def test_a_summary_says_what_is_worse_than_the_baseline():
    worse = make_change("size", estimate=11.11, low=11.11, high=11.11, sentence="size +11.11 %: worse.")
    record = make_record(verdicts=tuple(make_verdict(metric, baseline=(worse,)) for metric in ASKED))
    lines = github.summary([record, make_record(recipe="bf16", level="bf16")]).splitlines()
    assert lines[2].startswith("- Tiny-int4 may not ship: since its baseline it got worse: size +11.11 %, though it")
    assert "- Tiny-int4 worse than its baseline: size +11.11 %: worse." in lines
    assert any(line.startswith("| Tiny-int4 | may not ship | – | ✓ 1") for line in lines)
    assert any(line.startswith("| Tiny-bf16 | reference | – |") for line in lines)


def test_where_nothing_is_wrong_nothing_is_folded_away():
    assert "<details>" not in github.summary([make_record(verdicts=(make_verdict("size_reduction_percent"),))])


def test_a_summary_of_a_whole_suite_fits():
    whole = github.summary(generated(10))
    assert github.fitting(whole, 0) == whole
    assert sum(line.startswith("| ") for line in whole.splitlines()) == 10 * 9 + 1


@pytest.mark.parametrize("taken", [0, 1000, 1024 * 1024 - 200, 1024 * 1024 - 10, 1024 * 1024, 2 * 1024 * 1024])
def test_a_summary_that_is_too_long_is_cut_behind_a_line_with_a_sentence(taken):
    text = "".join(f"- Zeile {n} mit ≥ und ✓\n" for n in range(60_000))
    kept = github.fitting(text, taken)
    assert taken + len(kept.encode()) <= max(1024 * 1024, taken)
    if taken + 200 > 1024 * 1024:
        assert kept == ""
    else:
        assert kept.endswith("is complete.*\n")
        assert text.startswith(kept.rpartition("\n\n")[0] + "\n")
        assert taken + len(kept.encode()) > 1024 * 1024 - 100 or taken > 1024 * 1024 - 300
