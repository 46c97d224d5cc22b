import shlex

import pytest
from gates import BENCHES

from pytest_quantbench.plugin import suite


def test_the_suite_is_the_folder_of_the_repository_where_nothing_is_installed():
    assert suite.SUITE == BENCHES
    assert not suite.INSTALLED.exists()


@pytest.mark.parametrize("typed", ["", "-k 'Tiny and size' --runs 1", "--collect-only -q"])
def test_a_run_is_told_as_it_was_typed(monkeypatch, tmp_path, typed):
    monkeypatch.chdir(tmp_path)
    arguments = suite.suite_arguments(shlex.split(typed))
    assert suite.command_line(arguments) == f"quantbench run {typed}".strip()


@pytest.mark.parametrize("typed", ["", "benches -k Tiny", "test_gate.py --qb-model 'my model'"])
def test_pytest_itself_is_told_as_pytest(typed):
    assert suite.command_line(shlex.split(typed)) == f"pytest {typed}".strip()
