"""`quantbench compare`, `rank` and `merge` on generated suites: answers, exit codes, files."""

import json
from dataclasses import replace

import numpy as np
import pytest
from generated_suite import cells, write

from pytest_quantbench.cli.main import main
from pytest_quantbench.record.schema import read

RECIPES = ("int8", "int4", "int4-gptq")


@pytest.fixture(scope="module")
def suite():
    return cells(models=2, recipes=RECIPES, tokens=1024)


@pytest.fixture
def base(tmp_path, suite):
    write(tmp_path / "base", suite)
    return tmp_path / "base"


def worse(suite, recipe="int4", nats=0.1):
    """The same, with losses of one cell of the first model as those of a damaged layer."""
    found, rng = [], np.random.default_rng(0)
    for record, arrays in suite:
        if (record.model_id, record.recipe) == (suite[0][0].model_id, recipe):
            losses = arrays["perplexity/nll_nats"]
            arrays = arrays | {"perplexity/nll_nats": (losses + rng.normal(nats, nats, len(losses))).astype("f4")}
        found.append((record, arrays))
    return found


@pytest.fixture
def new(tmp_path, suite):
    write(tmp_path / "new", worse(suite))
    return tmp_path / "new"


def test_equal_folders_are_0_and_the_answer_stands_first(base, capsys):
    assert main(["compare", str(base), str(base)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("No regression in 46 figures of 8 cells: all samples are the same")
    assert max(map(len, printed)) <= 80


def test_a_regression_is_1_and_named_with_its_interval_in_the_first_lines(base, new, suite, capsys):
    assert main(["compare", str(base), str(new)]) == 1
    printed = capsys.readouterr().out
    first = " ".join(printed.split("\n\n")[0].split())
    name = f"{suite[0][0].model_id}-int4"
    assert first.startswith(f"1 regression in 46 figures of 8 cells: {name} perplexity +")
    assert "on the same 1,024 tokens: worse, beyond the noise floor of" in first
    assert printed.count("✗ regression") == 1
    assert max(map(len, printed.splitlines())) <= 80


def test_what_got_better_is_no_regression(base, new, capsys):
    assert main(["compare", str(new), str(base)]) == 0
    assert "✓ better" in capsys.readouterr().out


def test_smaller_damage_than_these_samples_show_is_told_with_what_they_would(base, tmp_path, suite, capsys):
    write(tmp_path / "near", worse(suite, nats=1e-4))
    assert main(["compare", str(base), str(tmp_path / "near")]) == 0
    first = " ".join(capsys.readouterr().out.split("\n\n")[0].split())
    assert "In each, a worsening of so much would have been seen: perplexity 0.0" in first


def test_models_are_chosen_and_worsenings_allowed(base, new, suite, capsys):
    first, second = dict.fromkeys(record.model_id for record, _ in suite)
    assert main(["compare", str(base), str(new), "--model", second]) == 0
    assert first not in capsys.readouterr().out
    assert main(["compare", str(base), str(new), "--model", first]) == 1
    assert main(["compare", str(base), str(new), "--allow", "perplexity=10", "--allow", "kl=1"]) == 0


def test_cells_of_other_names_are_compared_when_that_is_said(base, tmp_path, suite, capsys):
    renamed = [(replace(r, recipe="int4-mine") if r.recipe == "int4" else r, arrays) for r, arrays in suite]
    write(tmp_path / "other", renamed)
    assert main(["compare", str(base), str(tmp_path / "other")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    name = suite[0][0].model_id
    assert f"Only in the base: {name}-int4," in printed
    assert f"Only in the new: {name}-int4-mine," in printed
    assert main(["compare", str(base), str(tmp_path / "other"), "--as", "int4=int4-mine"]) == 0
    printed = capsys.readouterr().out
    assert f"{name}-int4-mine (against {name}-int4)" in printed
    assert "Only in" not in printed
    assert main(["compare", str(base), str(base), "--as", "int5=int4"]) == 2
    assert "--as: no cell is called int5; those of that folder are bf16, int4" in capsys.readouterr().err


def test_two_files_are_compared_whatever_they_are_called(base, suite, capsys):
    name = suite[0][0].model_id
    files = [str(base / f"{name}_4bit{more}.json") for more in ("", "_gptq")]
    assert main(["compare", *files]) in (0, 1)
    assert f"{name}-int4-gptq (against {name}-int4)" in capsys.readouterr().out


def test_nothing_to_compare_and_wrong_input_are_2(base, tmp_path, suite, capsys):
    others = [(replace(record, source_sha256="bb"), arrays) for record, arrays in suite]
    write(tmp_path / "others", others)
    assert main(["compare", str(base), str(tmp_path / "others")]) == 2
    printed = capsys.readouterr().out
    assert printed.startswith("Nothing could be compared (8 cells on both sides).")
    assert "they are of different originals" in printed
    for arguments, told in (
        ([str(base), str(tmp_path / "nowhere")], "there is no such folder or file"),
        ([str(base), str(base), "--allow", "perplexity"], "--allow perplexity: give FIGURE=X."),
        ([str(base), str(base), "--allow", "perplexity=much"], "--allow perplexity=much: give a number of at least 0."),
        ([str(base), str(base), "--allow", "ppl=1"], "Unknown figure to allow 'ppl'"),
        ([str(base), str(base), "--model", "Nobody"], "Nothing could be compared"),
    ):
        assert main(["compare", *arguments]) == 2
        said = capsys.readouterr()
        assert told in said.err + said.out


def test_the_page_and_json_say_the_same(base, new, tmp_path, capsys):
    page = tmp_path / "page.md"
    assert main(["compare", str(base), str(new), "--json", "--markdown", str(page)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["regressions"], told["compared"], len(told["cells"])) == (1, 46, 8)
    (change,) = [each for cell in told["cells"] for each in cell["changes"] if each["word"] == "regression"]
    text = page.read_text()
    assert text.startswith("# Comparison of two runs\n\n1 regression in 46 figures")
    assert change["sentence"] in text
    assert text.count("\n| ") == 1 + sum(len(cell["changes"]) for cell in told["cells"])


def test_matrices_that_got_worse_are_told(base, tmp_path, suite, capsys):
    hurt = []
    for record, arrays in suite:
        if "weights/snr_db" in arrays and record.recipe == "int4":
            snr = arrays["weights/snr_db"].copy()
            snr[3] -= 9
            arrays = arrays | {"weights/snr_db": snr}
        hurt.append((record, arrays))
    write(tmp_path / "hurt", hurt)
    assert main(["compare", str(base), str(tmp_path / "hurt")]) == 0
    assert "1 of 28 matrices are farther from the original's, most of all" in " ".join(capsys.readouterr().out.split())


def test_rank_orders_every_model(base, capsys):
    assert main(["rank", str(base)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("  nats behind") == 2
    assert max(map(len, printed.splitlines())) <= 80
    assert main(["rank", str(base), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert main(["rank", str(base), "--model", "Nobody"]) == 2


def test_merge_writes_one_folder_with_its_report(base, tmp_path, suite, capsys):
    for place, cell in enumerate(suite):
        write(tmp_path / f"shard{place % 2}", [cell])
    shards = [str(tmp_path / f"shard{place}") for place in (0, 1)]
    assert main(["merge", *shards, "--output", str(tmp_path / "all")]) == 0
    assert "8 records of 2 folders" in capsys.readouterr().out
    assert (tmp_path / "all" / "combined.json").is_file()
    assert (tmp_path / "all" / "benchmark_int_quant.md").is_file()
    assert main(["compare", str(base), str(tmp_path / "all")]) == 0
    damaged = next((tmp_path / "shard0").glob("*bit.json"))
    damaged.write_text("{}")
    assert main(["merge", *shards, "--output", str(tmp_path / "rest")]) == 1
    assert f"left out: {damaged}" in capsys.readouterr().err
    assert len([path for path in (tmp_path / "rest").glob("*_*bit*.json") if read(path)]) == 7
    assert main(["merge", *shards, "--output", str(tmp_path / "rest")]) == 2
