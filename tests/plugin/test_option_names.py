import re

import pytest
from gates import GATE

from pytest_quantbench.plugin.option_names import as_typed, given
from pytest_quantbench.plugin.options import OPTIONS


def test_long_and_short_names_fill_the_same_values(pytester):
    config = pytester.parseconfig("--limit", "3", "--qb-task", "one", "--task", "two")
    assert given(config) == {"limit": 3, "task": ("one", "two")}


def test_a_value_that_is_refused_is_told_with_the_option_as_it_was_typed(suite):
    for name in ("--limit", "--qb-limit"):
        result = suite(GATE, "-k", "Tiny", name, "0")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*{name} 0: give a number of at least 1*"])


def test_every_option_is_there_under_its_long_name_and_the_short_ones_are_not(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_PLUGINS")
    shown = pytester.runpytest_inprocess("--help").stdout.str()
    for name in OPTIONS:
        assert f"  --qb-{name}" in shown
        assert not re.search(rf" --{name}(?![\w-])", shown)


@pytest.mark.parametrize(
    ("sentence", "long"),
    [
        ("Say --offline, or --model DIRECTORY.", "Say --qb-offline, or --qb-model DIRECTORY."),
        ("--tokens 5 and --max-tokens=6", "--qb-tokens 5 and --qb-max-tokens=6"),
        ("(--fresh measures it again)", "(--qb-fresh measures it again)"),
        ("--task-data a=b, `--task x`", "--qb-task-data a=b, `--qb-task x`"),
        (
            "another's --models, --re-run-code and --qb-limit stay",
            "another's --models, --re-run-code and --qb-limit stay",
        ),
    ],
)
def test_a_sentence_names_options_as_they_can_be_typed(pytester, monkeypatch, sentence, long):
    assert as_typed(pytester.parseconfig(), sentence) == sentence
    monkeypatch.delenv("PYTEST_PLUGINS")
    assert as_typed(pytester.parseconfig(), sentence) == long


@pytest.mark.parametrize(
    ("source", "arguments", "told"),
    [
        (GATE, ("--qb-model", "nowhere"), "--qb-model 'nowhere' is neither*"),  # when options are read
        (GATE, ("--qb-results", "taken"), "Choose another folder with --qb-results*"),  # before the first item
        (
            GATE,
            ("-k", "phi", "--qb-offline"),
            "OfflineError: *--qb-offline forbids*--qb-model DIRECTORY*",
        ),  # in an item
        (GATE, ("--collect-only", "-k", "phi", "--qb-offline"), "quantbench: not here, and --qb-offline forbids*"),
    ],
)
def test_without_short_names_no_sentence_has_them(suite, pytester, monkeypatch, tmp_path, source, arguments, told):
    monkeypatch.delenv("PYTEST_PLUGINS")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (pytester.path / "taken").write_text("a file")
    result = suite(GATE, "-m", "int4", *arguments)
    said = result.stdout.str() + result.stderr.str()
    pytest.LineMatcher(said.splitlines()).fnmatch_lines([f"*{told}"])


def test_short_names_may_be_asked_for_on_the_command_line(suite, monkeypatch):
    monkeypatch.delenv("PYTEST_PLUGINS")
    assert suite(GATE, "--recipe", "int4-rtn").ret == pytest.ExitCode.USAGE_ERROR  # nobody asked
    asked = ("-p", "pytest_quantbench.plugin.short_options")
    for option in (("--qb-recipe",), ("--recipe", *asked)):
        result = suite(GATE, "--collect-only", "-q", "-k", "Tiny", option[0], "int4-rtn", *option[1:])
        result.stdout.fnmatch_lines(["*test_size[[]Tiny-int4-rtn[]]"])
