"""`quantbench compare` on generated suites: answers, exit codes, the page."""

import json
import shlex
from dataclasses import replace

import numpy as np
import pytest
from generated_suite import cells, write

from pytest_quantbench.cli.main import main
from pytest_quantbench.report.text_width import columns

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


def test_lost_samples_do_not_pass_the_gate(base, tmp_path, suite, capsys):
    """All that is left to be compared are the sizes, which are the same."""
    write(tmp_path / "bare", suite)
    for samples in (tmp_path / "bare").glob("*.npz"):
        samples.unlink()
    assert main(["compare", str(base), str(tmp_path / "bare")]) == 2
    first = " ".join(capsys.readouterr().out.split("\n\n")[0].split())
    assert first == "No regression in 8 figures of 8 cells; 38 figures could not be compared."


def test_what_the_new_run_has_not_measured_does_not_pass_and_what_the_base_has_not_does(base, tmp_path, suite, capsys):
    without_t2 = [(replace(record, perplexity=None), arrays) for record, arrays in suite]
    write(tmp_path / "less", without_t2)
    assert main(["compare", str(base), str(tmp_path / "less")]) == 2
    printed = capsys.readouterr().out
    assert printed.startswith("No regression in 32 figures of 8 cells; 14 figures could not be compared.")
    assert "the new run has not measured it" in printed
    assert main(["compare", str(tmp_path / "less"), str(base)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("No regression in 32 figures of 8 cells: all samples are the same to the last")
    assert "perplexity, KL divergence: the base has not measured it" in " ".join(printed.split())
    leave_out = ["--without", "perplexity", "--without", "kl"]
    assert main(["compare", str(base), str(tmp_path / "less"), *leave_out]) == 0


def test_a_regression_is_1_whatever_else_could_not_be_compared(base, tmp_path, suite, capsys):
    write(tmp_path / "partly", worse(suite)[:-1])
    assert main(["compare", str(base), str(tmp_path / "partly")]) == 1
    first = " ".join(capsys.readouterr().out.split("\n\n")[0].split())
    assert first.startswith(
        "1 regression in 40 figures of 7 cells; 1 cell of the base could not be found in the new run: "
    )


def test_speed_that_is_not_judged_is_not_missed(base, tmp_path, suite):
    """Of kernels that nobody deploys, whether the machine drifted or the new run left it out."""
    shown = {"backend": "cpu", "judges_speed": False}
    on_cpu = [(replace(record, machine=replace(record.machine, **shown)), arrays) for record, arrays in suite]
    write(tmp_path / "cpu", on_cpu)
    write(tmp_path / "untimed", [(replace(record, throughput=None), arrays) for record, arrays in on_cpu])
    assert main(["compare", str(tmp_path / "cpu"), str(tmp_path / "untimed")]) == 0
    untimed = [(replace(record, throughput=None), arrays) for record, arrays in suite]
    write(tmp_path / "cuda", untimed)
    assert main(["compare", str(base), str(tmp_path / "cuda")]) == 2


def test_names_longer_or_wider_than_their_column_are_shown_whole(tmp_path, suite, capsys):
    long = "int4-of-a-campaign-that-describes-itself-in-more-than-eighty-columns-whatever-a-terminal-may-hold"
    wide = "四位量化方法" * 8
    for place, name in enumerate((long, wide)):
        named = [(replace(r, recipe=name) if r.recipe == "int4" else r, arrays) for r, arrays in suite]
        write(tmp_path / f"base{place}", named)
        write(tmp_path / f"new{place}", worse(named, recipe=name))
        assert main(["compare", str(tmp_path / f"base{place}"), str(tmp_path / f"new{place}")]) == 1
        assert main(["rank", str(tmp_path / f"new{place}")]) == 0
        printed = capsys.readouterr().out
        assert name in "".join(printed.split())
        assert "…" not in printed
        assert max(map(columns, printed.splitlines())) <= 80


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
    assert main(["compare", str(base), str(tmp_path / "other")]) == 2
    printed = " ".join(capsys.readouterr().out.split())
    name = suite[0][0].model_id
    assert "figures of 6 cells; 2 cells of the base could not be found in the new run." in printed
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
        ([str(base), str(base), "--model", "Nobody"], "Unknown model 'Nobody'. Choose from: Llama-3.2-3B-Instruct, "),
        ([str(base), str(base), "--without", "ppl"], "Unknown figure to leave out 'ppl'"),
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
    assert text.endswith(f"    quantbench compare {base} {new} --markdown {page}\n")
    assert text.count("\n| ") == 1 + sum(len(cell["changes"]) for cell in told["cells"])


def test_the_page_repeats_all_that_was_typed_so_that_it_can_be_typed_again(base, tmp_path, suite):
    page = tmp_path / "a page.md"
    name = suite[0][0].model_id
    typed = ["compare", str(base), str(base), "--model", name, "--as", "int4=int4", "--allow", "perplexity=10"]
    typed += ["--without", "size", "--markdown", str(page)]
    assert main(typed) == 0
    *_, last = page.read_text().splitlines()
    assert shlex.split(last) == ["quantbench", *typed]


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
