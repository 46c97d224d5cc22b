import pytest
from gates import GATE

from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY


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


def test_a_marker_that_names_an_unknown_model_lists_the_choices(suite):
    result = suite("import pytest\n@pytest.mark.quantbench(models=['Tny'])\ndef test_it(cell): pass")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    told = result.stdout.str() + result.stderr.str()
    assert "Unknown model 'Tny'" in told
    assert "Traceback" not in told
    assert "run.py" not in told


def test_a_marker_with_a_misspelt_argument_does_not_run_over_everything(suite):
    result = suite("import pytest\n@pytest.mark.quantbench(model=['Tiny'])\ndef test_it(cell): pass")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*Unknown argument of the quantbench marker 'model'. Choose from: models, recipes.*"])


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


def test_the_embedded_model_is_where_the_catalogue_says():
    assert MODELS["Tiny"].local
    assert (TINY_DIRECTORY / "config.json").is_file()


def test_the_settings_above_a_folder_are_found_and_named(suite, pytester, monkeypatch):
    pytester.makepyprojecttoml('[tool.quantbench]\nreport = "far.md"\n[tool.pytest.ini_options]\n')
    folder = pytester.mkdir("inner")
    (folder / "pyproject.toml").write_text("[tool.quantbench.criteria.int4]\nsize_reduction_percent = 99.0\n")
    monkeypatch.chdir(folder)
    result = suite(GATE, "-k", "Tiny", "-m", "int4", str(pytester.path / "test_gate.py"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"quantbench: [[]tool.quantbench[]] of {folder}/pyproject.toml", "*limit ≥ 99 %*"])


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


PRICED = """
    def test_it(quantbench_run):
        price = quantbench_run.settings.price
        assert (price.per_hour, price.currency, price.volume_tokens) == {expected}
"""


def test_a_price_comes_from_options_or_from_pyproject(suite, pytester):
    suite(
        PRICED.format(expected=(2.5, "EUR", 1000)), "--price-per-hour", "2.5EUR", "--cost-volume", "1000"
    ).assert_outcomes(passed=1)
    pytester.makepyprojecttoml('[tool.quantbench.cost]\nprice_per_hour = 4\ncurrency = "USD"\nvolume_tokens = 1e9')
    suite(PRICED.format(expected=(4.0, "USD", 10**9))).assert_outcomes(passed=1)
    suite(PRICED.format(expected=(2.5, "", 10**9)), "--price-per-hour", "2.5").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--price-per-hour", "cheap"], "*--price-per-hour*give a number above 0, with a currency or without*"),
        (["--cost-volume", "1000"], "*A volume of tokens without a price: give --price-per-hour as well.*"),
    ],
)
def test_a_price_that_is_none_is_a_usage_error(suite, arguments, message):
    result = suite(GATE, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
