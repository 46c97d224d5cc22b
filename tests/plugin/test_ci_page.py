"""docs/ci.md: its gate and its hooks work together, and exit codes are what it says; tests/docs_pages has the rest."""

import tomllib

import pytest
from pages import NAMES, ROOT, blocks

from pytest_quantbench.plugin.options import OPTIONS

PAGE = NAMES["docs/ci.md"].read_text()


def example(beginning):
    (found,) = [block.text for block in blocks("docs/ci.md") if block.text.startswith(beginning)]
    return found


def test_the_gate_and_the_hooks_of_the_page_work_together(suite, pytester):
    pytester.makeconftest(example("# conftest.py") + "\n")
    result = suite(example("# test_gate.py").replace("limit=0.5", "limit=-5.0"), "--fixed")
    result.assert_outcomes(passed=1, failed=1)  # by the cell's own criterion, and by a limit that nothing meets
    result.stdout.fnmatch_lines(["2 records in results, of 0.00? GB of weights"])
    assert '"cell": "Tiny-int4", "why": "perplexity delta' in (pytester.path / "failed.jsonl").read_text()
    suite(example("# test_gate.py"), "--fixed").assert_outcomes(passed=2)


EXITS = {
    "a pass": (0, "settle(cell.judge('size'))", ()),
    "undecided": (0, "settle(dataclasses.replace(cell.judge('size'), outcome='undecided'))", ()),
    "undecided fails": (
        1,
        "settle(dataclasses.replace(cell.judge('size'), outcome='undecided'))",
        ("--undecided", "fail"),
    ),
    "a fail": (1, "settle(cell.judge('size', 99.0))", ()),
    "an error": (1, "settle(cell.judge('nonsense'))", ()),
    "interrupted": (2, "pytest.exit('enough')", ()),
    "an import that fails": (2, "pass\nimport nothing_of_this_name", ()),
    "a wrong option": (4, "pass", ("--runs", "many")),
    "nothing selected": (5, "pass", ("-k", "nothing-of-this-name")),
}


@pytest.mark.parametrize("case", EXITS)
def test_the_exit_codes_are_those_of_the_page(suite, case):
    code, body, arguments = EXITS[case]
    assert f"\n| {code} | " in PAGE
    source = "import dataclasses\nimport pytest\n@pytest.mark.quantbench(models=['Tiny'], recipes=['int4'])\n"
    result = suite(f"{source}def test_it(cell, settle):\n    {body}\n", *arguments)
    assert result.ret == code


def test_the_extras_that_the_page_names_are_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"cpu", "cuda", "plots", "trackio", "mlflow"} <= set(extras)
    assert set(OPTIONS["track"].metavar.split("|")) <= set(extras)
