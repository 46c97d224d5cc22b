"""`quantbench pick` as a user calls it."""

import json
import re

import generated_suite
import pytest
from pages import NAMES, the_block

from pytest_quantbench.cli.main import main
from pytest_quantbench.plan.requirements import REQUIREMENTS
from pytest_quantbench.plugin.pyproject_table import read_table


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    directory = tmp_path_factory.mktemp("results")
    generated_suite.write(directory, generated_suite.cells(2))
    return directory


def test_the_answer_stands_first_and_fits_the_terminal(results, capsys):
    assert main(["pick", str(results), "--max-ppl-delta", "1", "--max-accuracy-drop", "5", "--max-gb", "100"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Qwen2.5-1.5B-Instruct: take int")
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(("undecided", "rejected")) for line in lines)


def test_where_nothing_meets_all_the_exit_code_says_so(results, capsys):
    assert main(["pick", str(results), "--max-gb", "0.001"]) == 1
    assert "nothing meets all that is required" in capsys.readouterr().out


def test_one_model_may_be_chosen_and_programs_read_json(results, capsys):
    assert main(["pick", str(results), "--max-gb", "100", "--model", "Llama-3.2-3B-Instruct", "--json"]) == 0
    (choice,) = json.loads(capsys.readouterr().out)
    assert choice["model"] == "Llama-3.2-3B-Instruct"
    assert choice["picked"]["record"]["recipe"] == "int2-vptq"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Nothing is required"),
        (["--max-gb", "1", "--model", "Llama"], "Unknown model 'Llama'"),
    ],
)
def test_wrong_input_is_one_sentence(results, capsys, arguments, told):
    assert main(["pick", str(results), *arguments]) == 2
    assert told in capsys.readouterr().err


def test_a_folder_without_records_is_named(tmp_path, capsys):
    assert main(["pick", str(tmp_path), "--max-gb", "1"]) == 2
    assert "holds no records" in capsys.readouterr().err


PAGE = NAMES["docs/choosing.md"].read_text()


def test_the_pages_prices_are_read(tmp_path):
    (tmp_path / "pyproject.toml").write_text(the_block("docs/choosing.md", "toml"))
    table = read_table(tmp_path)[1]["cost"]
    assert table == {"price_per_hour": 2.49, "currency": "USD", "volume_tokens": 10**9}


def test_the_page_names_every_requirement():
    named = set(re.findall(r"^\| `--([a-z-]+)", PAGE, re.MULTILINE))
    assert named == {*REQUIREMENTS, "model", "json"}
