"""`quantbench judge`: the suite on candidates, with an original to compare them with."""

import argparse
import json
import re

import pytest
from cli.test_run import quantbench
from mlx_models import as_mlx
from pages import NAMES, the_block

from pytest_quantbench.catalog.criteria import METRICS
from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.checkpoints import formats
from pytest_quantbench.cli import judge
from pytest_quantbench.cli.main import main
from pytest_quantbench.plugin import suite
from pytest_quantbench.plugin.options import OPTIONS
from pytest_quantbench.plugin.pyproject_table import candidate_limits, read_table

PAGE = NAMES["docs/candidates.md"].read_text()


@pytest.fixture
def q4(tmp_path):
    """Tiny in 4 bits, as MLX stores it."""
    return as_mlx(TINY_DIRECTORY, tmp_path / "q4", bits=4)


@pytest.fixture
def told(monkeypatch):
    """What pytest would be told."""
    found = []
    monkeypatch.setattr(suite, "run", lambda arguments: found.extend(arguments) or 7)
    return found


def test_the_suite_is_told_candidates_and_original_and_its_exit_code_is_returned(told):
    assert main(["judge", "a.gguf", "b=c.gguf", "--reference", "Tiny"]) == 7
    assert told == ["--candidate", "a.gguf", "--candidate", "b=c.gguf", "--model", "Tiny"]


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        (["--max-ppl-delta", "0.5", "--max-accuracy-drop=2"], ["--max-ppl-delta=0.5", "--max-accuracy-drop=2"]),
        (["--corpus", "x.txt", "--corpus", "y.txt"], ["--corpus=x.txt", "--corpus=y.txt"]),
        (["--fixed", "--max-ppl-delta", "-1"], ["--fixed", "--max-ppl-delta=-1"]),
        (["-k", "t2 or size", "-m", "not t1"], ["-k", "t2 or size", "-m", "not t1"]),
        (["-x", "--co", "-q", "--maxfail", "1"], ["-x", "--co", "-q", "--maxfail", "1"]),
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_options_of_the_suite_and_of_pytest_are_passed_on(told, typed, passed, first):
    """Those of the suite stand anywhere; what only pytest knows stands behind the candidates."""
    own = typed[-1] != "1"
    order = [*typed, "a.gguf"] if first and own else ["a.gguf", *typed]
    main(["judge", *order, "--reference", "Tiny"])
    assert told == ["--candidate", "a.gguf", "--model", "Tiny", *passed]


def test_every_option_of_the_suite_is_one_of_its_own(capsys):
    parser = argparse.ArgumentParser()
    judge.add_arguments(parser)
    declared = {string for action in parser._actions for string in action.option_strings}
    assert {f"--{name}" for name in OPTIONS if name not in judge.REPLACED} <= declared
    assert not {f"--{name}" for name in judge.REPLACED} & declared
    with pytest.raises(SystemExit):
        main(["judge", "--help"])
    shown = capsys.readouterr().out
    assert "usage: quantbench judge CANDIDATE [CANDIDATE ...] --reference MODEL [--max-ppl-delta [TEXT=]X]" in shown


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (["--reference", "/nowhere"], "--reference /nowhere: there is no such directory."),
        (["--reference", "nothing"], "--reference 'nothing' is neither an existing directory nor a Hub id"),
        ([], "Give the original that q4 was made from with --reference PATH_OR_HUB_ID."),
    ],
)
def test_an_original_is_asked_for_by_the_name_of_the_option(q4, told, capsys, reference, message):
    assert main(["judge", str(q4), *reference]) == 2
    assert message in capsys.readouterr().err
    assert told == []


def test_the_original_that_the_files_name_is_proposed(q4, told, capsys):
    (q4 / "README.md").write_text("---\nbase_model: someone/tiny\n---\n")
    assert main(["judge", f"mine={q4}"]) == 2
    assert "Give the original with --reference someone/tiny: q4 names it as its base model." in capsys.readouterr().err


@pytest.mark.model
@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("1000", pytest.ExitCode.OK),
        pytest.param("-1000", pytest.ExitCode.TESTS_FAILED, marks=pytest.mark.slow),
    ],
)
def test_from_a_file_to_a_verdict(q4, tmp_path, limit, code):
    quick = ("--fixed", "--tokens", "128", "-m", "t2")
    found, said = quantbench(tmp_path, "judge", str(q4), "--reference", "Tiny", "--max-ppl-delta", limit, *quick)
    assert found == code, said
    assert "quantbench: candidate q4: MLX, 4.50 bits per weight in its layers: judged as int4" in said
    record = json.loads((tmp_path / "results" / "Tiny_candidate_q4.json").read_text())
    (verdict,) = [each for each in record["verdicts"] if each["metric"] == "perplexity_delta"]
    assert (record["recipe"], record["level"], verdict["limit"]) == ("q4", "int4", float(limit))


def test_the_pages_table_of_limits_is_one(tmp_path):
    (tmp_path / "pyproject.toml").write_text(the_block("docs/candidates.md", "toml"))
    every, one = candidate_limits(read_table(tmp_path)[1]["candidates"])
    assert set(every) < set(METRICS)
    assert one == {"tiny-4bit": {"perplexity_delta": 0.3}}


def test_the_page_names_every_format_and_no_other():
    table = PAGE.partition("## What is read")[2]
    named = {name for row in re.findall(r"^\| (`.*?) \| ", table, re.MULTILINE) for name in re.findall("`(.*?)`", row)}
    assert named == {each.name for each in formats.every()}
