import re
import unicodedata
from pathlib import Path

import pytest
from gates import BENCHES, GATE, run_python

from pytest_quantbench.catalog.models import MODELS
from pytest_quantbench.catalog.recipes import LEVELS

HEAVY = (
    "mlx",
    "mlx.core",
    "mlx_lm",
    "transformers",
    "lm_eval",
    "datasets",
    "scipy",
    "altair",
    "vl_convert",
    "numpy",
    "torch",
)


def test_ids_are_model_and_recipe(suite):
    result = suite(GATE, "--collect-only", "-q")
    result.stdout.fnmatch_lines(["test_gate.py::test_size[[]Tiny-bf16[]]", "*Llama-3.2-3B-Instruct-int4[]]"])
    listed = [line for line in result.outlines if "::" in line]
    assert len(listed) == len(MODELS) * len(LEVELS)


def test_model_by_model_then_recipe_then_test(suite):
    source = GATE + "\ndef test_other(cell): pass\n"
    result = suite(source, "--collect-only", "-q", "-k", "Tiny or Qwen3")
    names = [line.partition("[")[2].rstrip("]") for line in result.outlines if "::" in line]
    assert names[:4] == ["Tiny-bf16", "Tiny-bf16", "Tiny-int8", "Tiny-int8"]
    assert [name.startswith("Tiny") for name in names] == [True] * 10 + [False] * 10


def test_every_model_goes_through_its_recipes_in_the_same_order(suite):
    """pytest alone would go back and forth: the second model would begin with the last recipe of the first."""
    listed = suite(GATE, "--collect-only", "-q", "-k", "Tiny or Qwen3 or phi").stdout.str()
    cells = [line.partition("[")[2].rstrip("]") for line in listed.splitlines() if "[" in line]
    recipes = ["bf16", "int8", "int4", "int3", "int2"]
    assert cells == [f"{model}-{recipe}" for model in ("Tiny", "Qwen3-8B", "phi-4") for recipe in recipes]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("-m", "int4"), 11),
        (("-m", "int4 and size"), 11),
        (("-m", "int4 and t2"), 0),
        (("-k", "Llama"), 10),
        (("-m", "int4", "-k", "Llama"), 2),
        (("--recipe", "int4-rtn", "--recipe", "int2", "-k", "Tiny"), 3),  # and the reference
    ],
)
def test_markers_keywords_and_recipes_select(suite, arguments, count):
    result = suite(GATE, "--collect-only", "-q", *arguments)
    assert len([line for line in result.outlines if "::" in line]) == count


def test_an_unknown_marker_is_a_usage_error_that_lists_the_choices(suite):
    result = suite(GATE, "-m", "int5 and not t2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Unknown marker 'int5'. Choose from: bf16, depth, int2, int3, int4, int8, kv*"])


def test_a_keyword_that_matches_nothing_is_told_the_models(suite):
    result = suite(GATE, "-k", "Mixtral")
    result.stdout.fnmatch_lines(["quantbench: nothing selected; the models are Tiny, *"])


def test_a_results_folder_that_cannot_be_written_stops_the_session_before_it_starts(suite, pytester):
    (pytester.path / "taken").write_text("a file")
    result = suite(GATE, "-k", "Tiny", "--results", "taken")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Cannot write*Choose another folder with --results*"])


def test_a_disk_that_cannot_hold_the_selection_stops_the_session_with_the_numbers(suite, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("pytest_quantbench.plan.disk.free_bytes", lambda _: 10**9)
    result = suite(GATE, "-k", "phi", "-m", "int4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Disk plan A needs 37.6 GB*and 1.0 GB are free*Choose fewer models with -k*"])


def test_the_header_says_what_is_fetched_and_what_it_takes(suite, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    result = suite(GATE, "--collect-only", "-m", "int4", "-k", "Llama-3.2")
    result.stdout.fnmatch_lines(
        [
            "quantbench: 1 cell of 1 model; to fetch: Llama-3.2-3B-Instruct 6.4 GB",
            "quantbench: disk plan A (keep everything): 8.24 GB at most, 8.24 GB kept; *",
        ]
    )


@pytest.mark.parametrize("kept", ["ünï", "u\u0308ni\u0308", "模型", "my model (2)", "a#b", "Ünï-4B"])
def test_a_model_is_chosen_by_its_name_in_any_letters(kept, suite, small_model):
    """By -k as it was typed or as macOS keeps it, with _ for what an expression cannot hold, and by the item's id."""
    directory = small_model().rename(Path.cwd() / kept)
    model = ("--model", str(directory), "--collect-only", "-q")
    typed = re.sub(r"[ ()#]", "_", unicodedata.normalize("NFC", kept))
    for chosen in (("-k", typed), ("-k", typed.upper(), "-m", "not t1"), (f"test_gate.py::test_size[{kept}-int4]",)):
        listed = [line for line in suite(GATE, *model, *chosen).outlines if "::" in line]
        assert len(listed) == (1 if "::" in chosen[0] else len(LEVELS))
        assert all(line.startswith(f"test_gate.py::test_size[{kept}-") for line in listed)
    assert not [line for line in suite(GATE, *model, "-k", "nobody").outlines if "::" in line]


def test_a_name_that_a_terminal_cannot_show_is_escaped(suite, small_model):
    directory = small_model().rename(Path.cwd() / "a\nb")
    result = suite(GATE, "--model", str(directory), "--collect-only", "-q", "-k", "a_b")
    assert next(line for line in result.outlines if "::" in line) == r"test_gate.py::test_size[a\nb-bf16]"


def test_the_suites_own_items_stay_with_their_models(suite, pytester):
    pytester.makepyfile(
        test_suite="""
            def test_models(suite, settle):
                assert suite.incomplete == 1  # the only cell is not torn down yet
                settle(suite)
        """
    )
    result = suite(GATE, "test_gate.py", "test_suite.py", "-k", "Tiny", "-m", "int4", "-v")
    result.assert_outcomes(passed=2)
    assert [line for line in result.outlines if "PASSED" in line][-1].startswith("test_suite.py::test_models[int4]")
    result.stdout.fnmatch_lines(["Tiny-int4 is undecided: it meets the one criterion that was judged (size)*"])


def test_collecting_the_whole_suite_loads_nothing_heavy(tmp_path):
    code = (
        f"import pytest, sys; pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', {str(BENCHES)!r}]); "
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = run_python(code, BENCHES.parent)
    assert "LOADED []" in result.stdout, result.stdout[-2000:] + result.stderr
    assert "test_perplexity[Llama-3.2-3B-Instruct-int4]" in result.stdout


def test_the_self_test_is_only_run_when_asked_for(suite):
    source = """
        import pytest

        @pytest.mark.selftest
        @pytest.mark.quantbench(recipes=["int4"])
        def test_gate(cell):
            pass
    """
    assert "test_gate[Tiny-int4]" not in suite(source, "--collect-only", "-q", "-k", "Tiny").stdout.str()
    result = suite(source, "--collect-only", "-q", "-k", "Tiny", "-m", "selftest")
    result.stdout.fnmatch_lines(["test_gate.py::test_gate[[]Tiny-int4[]]"])


def test_a_disk_plan_leaves_out_what_it_has_no_room_for_and_starts_with_the_largest_model(suite, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    result = suite(GATE, "--collect-only", "-q", "-k", "Qwen or Tiny", "--disk-plan", "D")
    names = [line.partition("[")[2].rstrip("]") for line in result.outlines if "::" in line]
    assert {name.rpartition("-")[2] for name in names} == {"bf16", "int4"}
    assert [name.rpartition("-")[0] for name in names[::2]] == [
        "Qwen2.5-14B-Instruct",
        "Qwen3-8B",
        "Qwen2.5-7B-Instruct",
        "DeepSeek-R1-Distill-Qwen-7B",
        "Qwen2.5-1.5B-Instruct",
        "Tiny",
    ]


def test_warnings_of_other_plugins_do_not_end_the_benchmark(pytester):
    pytester.makepyfile(
        loud="""
        import warnings

        def pytest_configure(config):
            warnings.warn("an option is unset", DeprecationWarning)
    """
    )
    arguments = (str(BENCHES), "--rootdir", str(BENCHES.parent), "-c", str(BENCHES.parent / "pyproject.toml"))
    result = pytester.runpytest_subprocess("-p", "loud", "-k", "Tiny", "--collect-only", "-q", *arguments)
    assert result.ret == pytest.ExitCode.OK, result.stdout.str() + result.stderr.str()


@pytest.mark.slow
def test_an_unknown_task_is_refused_before_anything_runs(suite):
    source = """
        import pytest

        @pytest.mark.t3
        def test_accuracy(cell, settle):
            settle(cell.judge("accuracy"))
    """
    result = suite(source, "-k", "Tiny", "-m", "int4", "--task", "arc_esay")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Unknown task 'arc_esay'*Did you mean arc_easy*"])
    assert "UNDECIDED" not in result.stdout.str()
