"""The limits above the table, against the catalogue's."""

from dataclasses import replace

import generated_suite
import pytest
from builders import make_record, make_verdict

from pytest_quantbench.catalog.criteria import CRITERIA, asked_of
from pytest_quantbench.report.html.limits import limits, titles
from pytest_quantbench.report.html.typeset import asked


@pytest.fixture(scope="module")
def records():
    return generated_suite.records(2, ("int8", "int4", "int2"), tokens=512, questions=60)


def test_each_level_asks_what_the_catalogue_does(records):
    found = {line.level: line.asked for line in limits(records)}
    assert list(found) == ["int8", "int4", "int2"]
    assert set(found["int8"]) == {"no limit"}
    for level in ("int4", "int2"):
        for metric, told in zip(asked_of("weights"), found[level], strict=True):
            limit = CRITERIA[level][metric]
            assert told == ("no limit" if limit is None else asked(metric, limit))
    assert len(titles(records)) == 4


def test_several_limits_are_all_told_and_what_was_not_measured_is_missing(records):
    strict = replace(make_verdict("perplexity_delta"), limit=0.5)
    other = replace(records[2], verdicts=(strict,))
    assert limits([records[2], other])[0].asked[1] == "< 1, < 0.5"
    assert limits([other])[0].asked == ["–", "< 0.5", "–", "–"]


def test_references_have_no_line():
    assert limits([make_record(recipe="bf16", level="bf16")]) == []
