"""The plugin, seen from outside: small suites run by pytester in this process, on Tiny and on small random models."""

import importlib
import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from pytest_quantbench import plugin
from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import LEVELS

# pytester forgets modules that a run imports, and MLX, SciPy and matplotlib bear being imported only once.
for module in ("bench.cell", "measures.accuracy.score", "report.plots", "report.publish", "plugin.run"):
    importlib.import_module(f"pytest_quantbench.{module}")
for module in (
    "matplotlib.pyplot",
    "mlx_lm.models.llama",
    "mlx_lm.generate",
    "scipy.stats",
    "transformers.models.llama",
):
    importlib.import_module(module)

BENCHES = Path(__file__).parents[2] / "benches"
GATE = """
import pytest

@pytest.mark.size
def test_size(cell, settle):
    settle(cell.judge("size"))
"""


@pytest.fixture
def suite(pytester):
    """A folder with the given test file, run in process."""

    def run(source, *arguments, plugins=()):
        pytester.makepyfile(test_gate=source)
        quick = ("-p", "no:cacheprovider", "--qb-calibration", "none")
        return pytester.runpytest_inprocess(*quick, *arguments, plugins=plugins)

    return run


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipe", "int5"), "*Unknown recipe 'int5'. Choose from: *int4*"),
        (("--recipe", "int4-gqtp"), "*Unknown recipe 'int4-gqtp'*"),
        (("--model", "nonsense"), "*'nonsense' is neither an existing directory nor a Hub id*"),
        (("--model", "someone/Tiny"), "*Two models are called 'Tiny'*"),
        (("--task-data", "arc_easy"), "*give NAME=FILE.jsonl*"),
    ],
)
def test_unknown_names_are_usage_errors_that_list_the_choices(suite, arguments, message):
    result = suite(GATE, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


@pytest.mark.parametrize("arguments", [("--tokens", "few"), ("--runs", "0"), ("--limit", "-3")])
def test_impossible_numbers_are_refused(suite, arguments):
    result = suite(GATE, "-k", "Tiny", *arguments)
    assert result.ret != 0
    assert f"{arguments[0]} {arguments[1]}: give" in result.stdout.str() + result.stderr.str()


def test_an_unknown_marker_is_a_usage_error_that_lists_the_choices(suite):
    result = suite(GATE, "-m", "int5 and not t2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Unknown marker 'int5'. Choose from: bf16, int2, int3, int4, int8*"])


def test_a_keyword_that_matches_nothing_is_told_the_models(suite):
    result = suite(GATE, "-k", "Mixtral")
    result.stdout.fnmatch_lines(["quantbench: nothing selected; the models are Tiny, *"])


def test_pass_fail_and_undecided_have_outcomes_of_their_own(suite, pytester):
    source = """
        import pytest

        @pytest.mark.parametrize("limit", [90.0, 10.0])
        def test_size(cell, settle, limit):
            settle(cell.judge("size", limit))

        def test_perplexity(cell, settle):
            delta = cell.judge("perplexity").estimate
            settle(cell.judge("perplexity", delta + 0.01))
    """
    result = suite(source, "-k", "Tiny", "-m", "int3", "-rA", "--fixed")
    result.assert_outcomes(passed=1, failed=1)
    assert "1 undecided" in result.outlines[-1]
    result.stdout.fnmatch_lines(
        ["fail: size reduction vs BF16 *, limit ≥ 90 %.", "*Tiny-int3 undecided: *would settle it*"]
    )
    assert "Traceback" not in result.stdout.str()
    strict = suite(source, "-k", "Tiny and perplexity", "-m", "int3", "--undecided=fail", "--fixed")
    strict.assert_outcomes(failed=1)


def test_records_report_and_plot_are_written_and_named(suite, pytester):
    result = suite(GATE, "-k", "Tiny", "-m", "int4 or int3", "--results", "out")
    result.assert_outcomes(passed=2)
    names = {path.name for path in (pytester.path / "out").iterdir()}
    assert {"Tiny_4bit.json", "Tiny_3bit.json", "Tiny_4bit.npz", "combined.json", "benchmark_int_quant.md"} <= names
    record = json.loads((pytester.path / "out" / "Tiny_4bit.json").read_text())
    assert record["verdicts"][0]["outcome"] == "pass"
    result.stdout.fnmatch_lines(["*Tiny-int4 │ * bpw) ✓*", "records: *out*"])


def test_an_error_in_one_cell_is_one_sentence_and_the_others_go_on(suite, pytester, small_model):
    directory = small_model()
    file = directory / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    result = suite(GATE, "--model", str(directory), "-k", "llama-0-0 or Tiny", "-m", "int4")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["ModelError: *model.safetensors is truncated or corrupt*"])
    assert "Traceback" not in result.stdout.str()
    assert (pytester.path / "results" / "Tiny_4bit.json").is_file()


def test_offline_says_what_is_lacking(suite, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    result = suite(GATE, "--offline", "-k", "Llama-3.1", "-m", "int4")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["OfflineError: meta-llama/Llama-3.1-8B-Instruct is not in the Hub's cache*--model DIRECTORY*"]
    )


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


def test_a_gate_of_ones_own_chooses_models_and_recipes_with_a_marker(suite):
    source = """
        import pytest

        @pytest.mark.quantbench(models=["Tiny"], recipes=["int4-rtn"])
        def test_my_gate(cell, settle):
            verdict = cell.judge("perplexity", limit=1000.0)
            settle(verdict)
            assert cell.record().compression.quantized_fraction > 0.99
    """
    result = suite(source, "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_my_gate[[]Tiny-int4-rtn[]] PASSED*"])


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


def test_a_model_whose_name_has_accents_runs_and_leaves_its_record(suite, small_model, pytester):
    directory = small_model().rename(Path.cwd() / "ünï")
    result = suite(GATE, "--model", str(directory), "-k", "ünï", "-m", "int4", "-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_size[[]ünï-int4[]] PASSED*"])
    assert json.loads((pytester.path / "results" / "ünï_4bit.json").read_text())["model_id"] == "ünï"


def test_a_name_that_a_terminal_cannot_show_is_escaped(suite, small_model):
    directory = small_model().rename(Path.cwd() / "a\nb")
    result = suite(GATE, "--model", str(directory), "--collect-only", "-q", "-k", "a_b")
    assert next(line for line in result.outlines if "::" in line) == r"test_gate.py::test_size[a\nb-bf16]"


def test_a_marker_that_names_an_unknown_model_lists_the_choices(suite):
    result = suite("import pytest\n@pytest.mark.quantbench(models=['Tny'])\ndef test_it(cell): pass")
    assert result.ret != 0
    assert "Unknown model 'Tny'" in result.stdout.str() + result.stderr.str()


def test_a_fixture_of_the_users_called_cell_is_left_alone(suite):
    source = "import pytest\n@pytest.fixture\ndef cell(): return 1\ndef test_it(cell): assert cell == 1"
    suite(source).assert_outcomes(passed=1)


def test_criteria_and_models_come_from_the_users_pyproject(suite, pytester, small_model):
    directory = small_model()
    pytester.makepyprojecttoml(f"""
        [tool.quantbench]
        models = ["{directory}"]
        [tool.quantbench.criteria.int4]
        size_reduction_percent = 99.0
        [tool.quantbench.criteria."llama-0-0-int4"]
        size_reduction_percent = "informational"
    """)
    result = suite(GATE, "-m", "int4", "-k", "Tiny or llama-0-0")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*limit ≥ 99 %*"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[tool.quantbench.criteria.int5]\nperplexity_delta = 1", "Unknown selector*int5*"),
        ("[tool.quantbench.criteria.int4]\nperplexity = 1", "Unknown metric*'perplexity'*perplexity_delta*"),
        ("[tool.quantbench.criteria.int4]\nperplexity_delta = true", "*give a number or 'informational'*"),
        ("[tool.quantbench]\nmodel = []", "Unknown key*'model'*models*"),
    ],
)
def test_mistakes_in_the_users_pyproject_are_named(suite, pytester, table, message):
    pytester.makepyprojecttoml(table)
    result = suite(GATE, "-k", "Tiny", "--recipe", "int4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])


@pytest.mark.slow
def test_under_xdist_t1_refuses_and_the_rest_works(pytester):
    pytester.makepyfile(
        GATE
        + "\n@pytest.mark.t1\ndef test_speed(cell): raise AssertionError\ndef test_all(suite, settle): settle(suite)\n"
    )
    arguments = ("-n", "1", "-k", "Tiny", "-m", "int4", "-rs", "-W", "ignore", "-p", "no:cacheprovider")
    result = pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines(["Tiny-int4 │*", "*T1 refuses to run under pytest-xdist*"])


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
    result.stdout.fnmatch_lines(["int4: 0 of 1 models meet all criteria*judged from 10 models on*"])


def run_python(code, directory):
    return subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, timeout=120)


HEAVY = ("mlx", "mlx.core", "mlx_lm", "transformers", "lm_eval", "datasets", "scipy", "matplotlib", "numpy", "torch")


def test_importing_the_plugin_loads_nothing_but_the_standard_library_and_pytest(tmp_path):
    code = (
        "import pytest, sys; before = set(sys.modules); import pytest_quantbench.plugin; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(sorted(new - set(sys.stdlib_module_names)))"
    )
    assert run_python(code, tmp_path).stdout.strip() == "['pytest_quantbench']"


def test_collecting_the_whole_suite_loads_nothing_heavy(tmp_path):
    code = (
        f"import pytest, sys; pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', {str(BENCHES)!r}]); "
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    result = run_python(code, BENCHES.parent)
    assert "LOADED []" in result.stdout, result.stdout[-2000:] + result.stderr
    assert "test_perplexity[Llama-3.2-3B-Instruct-int4]" in result.stdout


def test_a_session_without_cells_is_left_alone(suite):
    result = suite("def test_it(): pass")
    result.assert_outcomes(passed=1)
    assert "quantbench:" not in result.stdout.str()


def test_the_embedded_model_is_where_the_catalogue_says():
    assert MODELS["Tiny"].local
    assert (TINY_DIRECTORY / "config.json").is_file()


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


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--time-budget", "0", "--time-budget 0: give a number above 0."),
        ("--max-tokens", "1", "--max-tokens 1: give a number of at least 2, or 'all'."),
        ("--corpus", "nowhere.txt", "--corpus nowhere.txt: there is no such file, and the known names are wikitext2"),
        ("--calibration", "nowhere.txt", "--calibration nowhere.txt: there is no such file"),
        ("--model", ".", "--model .: this directory has no config.json, so it is not a model."),
        ("--stride", "4096", "--stride 4096: give a number from 1 to the context, 256."),
        ("--context", "1", "--context 1: give a number of at least 2."),
    ],
)
def test_bounds_of_looking_are_checked(suite, option, value, told):
    result = suite(GATE, option, value, "-k", "Tiny")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr.str() + result.stdout.str()


def test_options_of_others_that_begin_alike_read_nothing(tmp_path):
    """`--color`, `--co` or another plugin's `--runslow` in a project that has nothing to do with this one."""
    (tmp_path / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--runslow', action='store_true')"
    )
    (tmp_path / "test_it.py").write_text("def test_it(): pass")
    code = (
        "import pytest, sys; pytest.main(['-q', '-p', 'no:cacheprovider', '--color=no', '--co', '--runslow']); "
        "print('READ', 'pytest_quantbench.plugin.run' in sys.modules)"
    )
    assert "READ False" in run_python(code, tmp_path).stdout


def test_what_was_measured_is_taken_unless_fresh_is_said():
    parser = pytest.Parser(_ispytest=True)
    plugin.pytest_addoption(parser)
    given = ([], ["--qb-resume"], ["--qb-fresh"])
    assert [parser.parse(arguments).qb_fresh for arguments in given] == [False, False, True]


CHECKS = """
import pytest

@pytest.mark.t2
def test_perplexity(cell, settle):
    settle(cell.judge("perplexity"))
"""


def test_a_second_run_takes_what_the_first_measured_and_says_so(suite, pytester, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(pytester.path / "cache"))
    arguments = ("-k", "Tiny", "-m", "int4", "--recipe", "int4-rtn", "--tokens", "512", "--fixed")
    said = "measured in earlier sessions and taken from there (--fresh measures it again): *T2 of Tiny-int4-rtn*"
    results, outputs = [], []
    for more in ((), (), ("--fresh",)):
        result = suite(CHECKS, *arguments, *more)
        result.assert_outcomes(passed=1)
        record = json.loads((pytester.path / "results" / "Tiny_4bit_rtn.json").read_text())
        results.append(record["perplexity"] | {"time_sec": None})
        outputs.append(result.stdout)
    outputs[1].fnmatch_lines([said])
    for first in (outputs[0], outputs[2]):
        first.no_fnmatch_line(said)
    assert results[0] == results[1] == results[2]


def test_what_was_warned_of_is_said_at_the_end(suite, pytester, monkeypatch):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(pytester.path / "cache"))
    arguments = ("-k", "Tiny", "-m", "int4", "--recipe", "int4-rtn", "--tokens", "512", "--fixed")
    suite(CHECKS, *arguments).assert_outcomes(passed=1)
    for path in (pytester.path / "cache").rglob("*"):
        if path.suffix in (".samples", ".safetensors"):
            path.write_bytes(path.read_bytes()[:-1])
    result = suite(CHECKS, *arguments)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["note: Kept samples were damaged: moved to *", "note: The artifact * damaged*"])


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


def test_a_disk_plan_that_there_is_not_is_refused(suite):
    result = suite(GATE, "-k", "Tiny", "--disk-plan", "E")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Unknown disk plan 'E'. Choose from: A, B, C, D, S.*"])


@pytest.mark.parametrize("more", [(), ("--keep-compressed",)])
def test_a_streamed_run_writes_no_compressed_model_unless_asked(suite, pytester, monkeypatch, more):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(pytester.path / "cache"))
    arguments = ("-k", "Tiny", "-m", "int4", "--recipe", "int4-rtn", "--tokens", "512", "--fixed", "--disk-plan", "S")
    suite(CHECKS, *arguments, *more).assert_outcomes(passed=1)
    assert any((pytester.path / "cache").rglob("*.safetensors")) == bool(more)
    assert (Path(TINY_DIRECTORY) / "model.safetensors").is_file()  # not ours to delete


@pytest.mark.parametrize(("arguments", "deletes"), [((), True), (("-x",), False)])
def test_a_session_that_is_stopped_deletes_no_weights(suite, monkeypatch, arguments, deletes):
    seen = []
    monkeypatch.setattr("pytest_quantbench.bench.cell.Subject.delete_weights", lambda self: seen.append(self) or 0)
    source = GATE + "\n@pytest.mark.size\ndef test_fails(cell): assert False\ndef test_more(cell): pass\n"
    suite(source, "-k", "Tiny", "-m", "bf16", "--disk-plan", "B", *arguments)
    assert bool(seen) == deletes


OWN_OPTIONS = ("--model", "--limit", "--recipe", "--tokens", "--runs", "--offline", "--results", "--task", "--resume")


@pytest.mark.parametrize("option", OWN_OPTIONS)
def test_another_project_may_have_options_of_our_short_names(pytester, monkeypatch, option):
    monkeypatch.delenv("PYTEST_PLUGINS")
    pytester.makeconftest(f"""
        def pytest_addoption(parser):
            parser.addoption("{option}", default=None)
    """)
    pytester.makepyfile(f"""
        def test_own(request):
            assert request.config.getoption("{option}") == "theirs"
    """)
    pytester.runpytest_subprocess(option, "theirs", "-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_long_and_short_names_fill_the_same_values(suite, monkeypatch):
    for name in ("--limit", "--qb-limit"):
        result = suite(GATE, "-k", "Tiny", name, "0")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines(["*--limit 0: give a number of at least 1*"])
    monkeypatch.delenv("PYTEST_PLUGINS")
    result = suite(GATE, "--collect-only", "-q", "-k", "Tiny", "--qb-recipe", "int4-rtn")
    result.stdout.fnmatch_lines(["*test_size[[]Tiny-int4-rtn[]]"])
    assert suite(GATE, "--recipe", "int4-rtn").ret == pytest.ExitCode.USAGE_ERROR  # nobody asked for short names


def test_another_projects_t1_and_groups_are_its_own_under_xdist(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_PLUGINS")
    pytester.makeini("[pytest]\nmarkers = t1: theirs")
    pytester.makepyfile("""
        import os
        import pytest

        @pytest.mark.t1
        @pytest.mark.xdist_group("together")
        @pytest.mark.parametrize("number", range(4))
        def test_own(number):
            assert os.environ["PYTEST_XDIST_WORKER"]
    """)
    (pytester.path / "pyproject.toml").write_text("[tool.quantbench]\nnonsense = 1")  # nobody has a reason to read it
    arguments = ("-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider")
    result = pytester.runpytest_subprocess(*arguments)
    result.assert_outcomes(passed=4)
    assert "quantbench" not in result.stdout.str().replace("plugins: quantbench", "").replace(", quantbench-", "")


def test_the_settings_above_a_folder_are_found_and_named(suite, pytester, monkeypatch):
    pytester.makepyprojecttoml('[tool.quantbench]\nreport = "far.md"\n[tool.pytest.ini_options]\n')
    folder = pytester.mkdir("inner")
    (folder / "pyproject.toml").write_text("[tool.quantbench.criteria.int4]\nsize_reduction_percent = 99.0\n")
    monkeypatch.chdir(folder)
    result = suite(GATE, "-k", "Tiny", "-m", "int4", str(pytester.path / "test_gate.py"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"quantbench: [[]tool.quantbench[]] of {folder}/pyproject.toml", "*limit ≥ 99 %*"])


def test_the_report_lies_where_the_project_says(suite, pytester):
    pytester.makepyprojecttoml('[tool.quantbench]\nreport = "docs/quality.md"')
    suite(GATE, "-k", "Tiny", "-m", "int4", "--results", "out").assert_outcomes(passed=1)
    assert (pytester.path / "docs" / "quality.md").is_file()
    assert not (pytester.path / "out" / "benchmark_int_quant.md").exists()


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("int4-nibble:group_size=64", "*gives parameters*nibble has bits*Choose int4-nibble*"),
        ("int3-nibble", "*nibble cannot have bits = 3*"),
        ("int4-nowhere.to.be:Found", "*'nowhere.to.be:Found' cannot be imported*"),
    ],
)
def test_recipes_that_cannot_be_made_are_refused_before_anything_runs(suite, recipe, message):
    result = suite(GATE, "-k", "Tiny", "--recipe", recipe)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_a_negative_seed_is_refused_before_anything_runs(suite):
    result = suite(GATE, "-k", "Tiny", "--sample-seed", "-1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--sample-seed -1: give a number from 0*"])


BROKEN_END = """
import pytest
from pytest_quantbench.bench.cell import Cell

def broken(self):
    if self.subject.model.name == "Tiny":
        raise KeyError("lm_head")
    return record(self)

record, Cell.record = Cell.record, broken

@pytest.mark.size
def test_size(cell, settle):
    settle(cell.judge("size"))
"""


def test_what_goes_wrong_at_the_end_of_a_model_is_told_with_its_own_last_item(suite, small_model, monkeypatch):
    from pytest_quantbench.bench.cell import Cell

    monkeypatch.setattr(Cell, "record", Cell.record)  # put back after the suite has changed it
    directory = small_model()
    result = suite(BROKEN_END, "-k", f"Tiny or {directory.name}", "-m", "int4", "--model", str(directory), "-v")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*ERROR at teardown of test_size[[]Tiny-int4[]]*"])
    assert "ERROR at setup" not in result.stdout.str()


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


def test_a_lax_gate_covers_no_strict_one_up(suite, pytester):
    """Both judge one metric of one cell: the failed test stands as failed in record, summary and suite."""
    source = """
        import pytest

        @pytest.mark.parametrize("limit", [99.0, None, 1.0])
        def test_size(cell, settle, limit):
            settle(cell.judge("size", limit))

        def test_suite(suite, settle):
            settle(suite)
            assert (suite.met, suite.failed) == (0, 1)
    """
    result = suite(source, "-k", "Tiny", "-m", "int4")
    result.assert_outcomes(passed=3, failed=1)
    record = json.loads((pytester.path / "results" / "Tiny_4bit.json").read_text())
    told = [(each["limit"], each["given"], each["outcome"]) for each in record["verdicts"]]
    assert told == [(70.0, False, "pass"), (1.0, True, "pass"), (99.0, True, "fail")]
    result.stdout.fnmatch_lines(["*Tiny-int4 │ * bpw) ✗*", "int4: 0 of 1 models meet all criteria, 1 do not*"])


def test_a_recipe_of_ones_own_has_a_suite_of_its_own(suite):
    source = """
        def test_size(cell, settle):
            settle(cell.judge("size"))

        def test_suite(suite, settle):
            settle(suite)
            assert (suite.recipe, suite.level, suite.incomplete) == ("int4-rtn", "int4", 1)
    """
    result = suite(source, "-k", "Tiny", "--recipe", "int4-rtn", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*test_suite[[]int4-rtn[]] PASSED*", "int4-rtn: 0 of 1 models meet all criteria*"])


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


def test_a_check_behind_an_item_without_a_cell_is_recorded_all_the_same(suite, pytester):
    """Whatever reorders items behind us, as --ff does: the cell is open until its last check is done."""
    pytester.makeconftest("""
        import pytest

        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_collection_modifyitems(items):
            result = yield
            items.sort(key=lambda item: ["test_size", "test_own", "test_weights"].index(item.originalname))
            return result
    """)
    source = """
        def test_size(cell, settle):
            settle(cell.judge("size"))

        def test_own():
            pass

        def test_weights(cell):
            assert cell.weight_samples.tensors
    """
    result = suite(source, "-k", "Tiny-int4 or own", "--recipe", "int4-rtn")
    result.assert_outcomes(passed=3, deselected=result.parseoutcomes().get("deselected", 0))
    record = json.loads((pytester.path / "results" / "Tiny_4bit_rtn.json").read_text())
    assert record["weights"] is not None
    assert len(record["verdicts"]) == 1


def test_a_suite_without_a_measured_model_is_skipped(suite):
    source = GATE + "\ndef test_models(suite, settle):\n    settle(suite)\n"
    result = suite(source, "-k", "test_models", "-rs")
    assert result.parseoutcomes()["skipped"] == 3
    result.stdout.fnmatch_lines(["*no cell of int4 was measured in this session*"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[tool]\nquantbench = 3", "tool.quantbench = 3 in *pyproject.toml: give a table*"),
        ("[tool.quantbench]\nmodels = [3]", "models = [[]3]: give a list of directories or Hub ids*"),
        ("[tool.quantbench]\nmodels = 'models/mine'", "models = 'models/mine': give a list*"),
        (
            "[tool.quantbench]\nmodels = ['/nowhere']",
            "[[]tool.quantbench] models: /nowhere: there is no such directory.",
        ),
        ("[tool.quantbench]\nmodels = ['nowhere']", "models: 'nowhere' is neither an existing directory nor*"),
        ("[tool.quantbench]\nreport = 3", "report = 3: give the path of a file*"),
        ("[tool.quantbench]\ncriteria = 3", "criteria = 3: give tables of limits*"),
        ("[tool.quantbench.criteria]\nint4 = 5", "int4 = 5: give a table*"),
        ("[tool.quantbench.criteria.int4]\nperplexity_delta = nan", "perplexity_delta = nan: give a number or*"),
    ],
)
@pytest.mark.parametrize("more", [(), ("--runs", "3")])  # read when cells are asked for, or at once
def test_values_of_the_wrong_kind_are_usage_errors(suite, pytester, table, message, more):
    pytester.makepyprojecttoml(table)
    result = suite(GATE, "-k", "Tiny", *more)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{message}"])
    assert "INTERNALERROR" not in result.stdout.str() + result.stderr.str()


def test_a_model_of_the_table_may_be_given_again(suite, pytester, small_model):
    directory = small_model()
    pytester.makepyprojecttoml(f"[tool.quantbench]\nmodels = ['{directory}']")
    result = suite(GATE, "--model", f"{directory}/", "--collect-only", "-q", "-m", "int4", "-k", directory.name)
    (item,) = [line for line in result.outlines if "::" in line]
    assert item.endswith(f"test_gate.py::test_size[{directory.name}-int4]")
