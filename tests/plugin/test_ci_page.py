"""docs/ci.md: its examples run, its workflows are what GitHub takes, and their commands what this package takes."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from pytest_quantbench.cli import main as command_line
from pytest_quantbench.plugin.options import OPTIONS

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/ci.md").read_text()
PYTHON, YAML, TOML = (re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("python", "yaml", "toml"))
WORKFLOWS = [*YAML, *(file.read_text() for file in sorted((REPOSITORY / ".github/workflows").glob("*.yml")))]
PINNED = re.compile(r"actions/[\w/-]+@v\d+")
TOOLS = {"pip", "make", "cat", "python3"}  # of commands that are not ours
EXPRESSION = re.compile(r"\$\{\{.*?\}\}")


def example(beginning):
    (found,) = [each for each in PYTHON if each.startswith(beginning)]
    return found


def shell_lines():
    """The commands of the page's indented examples, each on a line of its own."""
    lines = re.sub(r"\\\n\s*", "", PAGE).splitlines()
    return [line.strip() for line in lines if re.match(r"    (pytest|quantbench) ", line)]


def commands(workflow):
    """Of each `run:` of a workflow the commands, with what GitHub puts in its place taken out."""
    jobs = yaml.safe_load(workflow)["jobs"].values()
    steps = [step["run"] for job in jobs for step in job["steps"] if "run" in step]
    return [EXPRESSION.sub("x", line) for step in steps for line in step.splitlines() if line.strip()]


def check(command, config):
    """Raise, or exit, unless the parsers of this package or of pytest take a command."""
    tool, *arguments = shlex.split(command.partition(">>")[0])
    tool = Path(tool).name
    if tool == "quantbench":
        chosen = command_line._chosen(arguments)
        arguments = chosen.rest if chosen.verb == "run" else []
    elif tool == "make":
        (target,) = arguments
        assert re.search(rf"^{target}:", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    elif tool != "pytest":
        assert tool in TOOLS
    if tool in ("quantbench", "pytest"):
        config(*arguments)


def test_the_gate_and_the_hooks_of_the_page_work_together(suite, pytester):
    pytester.makeconftest(example("# conftest.py") + "\n")
    result = suite(example("# test_gate.py").replace("limit=0.5", "limit=-5.0"), "--fixed")
    result.assert_outcomes(passed=1, failed=1)  # by the cell's own criterion, and by a limit that nothing meets
    result.stdout.fnmatch_lines(["2 records in results, of 0.00? GB of weights"])
    assert '"cell": "Tiny-int4", "why": "perplexity delta' in (pytester.path / "failed.jsonl").read_text()
    suite(example("# test_gate.py"), "--fixed").assert_outcomes(passed=2)


@pytest.mark.parametrize("line", shell_lines())
def test_each_command_of_the_page_is_taken(pytester, line):
    (pytester.path / "wiki.test.raw").write_text("a text")
    check(line, pytester.parseconfig)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda text: yaml.safe_load(text)["name"])
def test_each_workflow_has_what_github_asks_for(pytester, workflow):
    told = yaml.safe_load(workflow)
    assert {"name", True, "permissions", "jobs"} <= set(told)  # YAML reads `on` as true
    assert told["permissions"] == {"contents": "read"}
    for job in told["jobs"].values():
        assert {"runs-on", "steps"} <= set(job)
        assert set(job) <= {"runs-on", "steps", "timeout-minutes", "strategy", "needs", "if", "env"}
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert set(step) <= {"uses", "run", "with", "if", "name", "id"}
            assert "uses" not in step or PINNED.fullmatch(step["uses"])
        named = set(re.findall(r"matrix\.(\w+)", yaml.safe_dump(job)))
        assert named == set(job.get("strategy", {}).get("matrix", ()))
        assert job.get("needs", next(iter(told["jobs"]))) in told["jobs"]
    for command in commands(workflow):
        check(command, pytester.parseconfig)


def test_a_command_with_an_option_that_there_is_not_would_be_seen(pytester):
    for wrong in ("quantbench run --basline x", "quantbench nonsense", "make nonsense", "curl x", "pytest --runs many"):
        with pytest.raises((AssertionError, SystemExit, pytest.UsageError)):
            check(wrong, pytester.parseconfig)


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
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"cpu", "cuda", "plots", "trackio", "mlflow"} <= set(extras)
    assert set(OPTIONS["track"].metavar.split("|")) <= set(extras)
