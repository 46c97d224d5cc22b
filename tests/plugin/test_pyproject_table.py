import re

import pytest

from pytest_quantbench.errors import QuantbenchError, UnknownNameError
from pytest_quantbench.plugin import pyproject_table
from pytest_quantbench.plugin.run import run_of


def test_a_pyproject_that_is_not_toml_is_named(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool")
    with pytest.raises(QuantbenchError, match=r"pyproject\.toml cannot be read as TOML"):
        pyproject_table.read_table(tmp_path)


def test_the_nearest_table_above_a_folder_holds(tmp_path):
    inner = tmp_path / "sub" / "deeper"
    inner.mkdir(parents=True)
    assert pyproject_table.read_table(inner) == (inner, {})
    (tmp_path / "pyproject.toml").write_text('[tool.quantbench]\nreport = "far.md"')
    (tmp_path / "sub" / "pyproject.toml").write_text('[tool.quantbench]\nreport = "near.md"')
    (inner / "pyproject.toml").write_text("[tool.other]\nreport = 1")
    assert pyproject_table.read_table(inner) == (tmp_path / "sub", {"report": "near.md"})
    assert pyproject_table.read_table(tmp_path / "elsewhere", tmp_path) == (tmp_path, {"report": "far.md"})


def test_a_table_names_models_beside_it(tmp_path):
    (tmp_path / "mine").mkdir()
    assert pyproject_table.beside(tmp_path, "mine") == str(tmp_path / "mine")
    assert pyproject_table.beside(tmp_path, "someone/thing") == "someone/thing"
    assert pyproject_table.beside(tmp_path, "./thing") == str(tmp_path / "thing")  # never beside where pytest started
    assert pyproject_table.beside(tmp_path, "n" * 300) == "n" * 300


def written(folder, text):
    (folder / "pyproject.toml").write_text(text)
    return folder


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tool = 3", "tool = 3 in "),
        ("[tool]\nquantbench = 3", "tool.quantbench = 3 in "),
        ("[tool]\nquantbench = []", "tool.quantbench = [] in "),
        ("[[tool.quantbench]]", "tool.quantbench = [{}] in "),
        ("[tool.quantbench]\nmodels = 3", "[tool.quantbench] models = 3: give a list of directories or Hub ids"),
        ("[tool.quantbench]\nmodels = 'models/mine'", "models = 'models/mine': give a list"),
        ("[tool.quantbench]\nmodels = [3]", "models = [3]: give a list"),
        ("[tool.quantbench]\nmodels = ['a/b', '']", "models = ['a/b', '']: give a list"),
        ("[tool.quantbench]\nmodels = ['a/b', ['c/d']]", "models = ['a/b', ['c/d']]: give a list"),
        ('[tool.quantbench]\nmodels = ["a\\u0000b"]', "models = ['a\\x00b']: give a list"),
        ("[tool.quantbench]\nmodels = {mine = 'a/b'}", "models = {'mine': 'a/b'}: give a list"),
        ("[tool.quantbench]\nreport = 3", "[tool.quantbench] report = 3: give the path of a file"),
        ("[tool.quantbench]\nreport = ''", "report = '': give the path of a file"),
        ("[tool.quantbench]\nreport = ['a.md']", "report = ['a.md']: give the path of a file"),
        ("[tool.quantbench]\nreport = '.'", "report = '.': this is a folder"),
        ("[tool.quantbench]\nreport = 'pyproject.toml/a.md'", "pyproject.toml is a file, not a folder"),
        ("[tool.quantbench]\nengine = 3", "[tool.quantbench] engine = 3: give the name of an engine, such as 'torch'"),
        ("[tool.quantbench]\nactivations = 'bf16'", "activations = 'bf16': give 'float32' or 'bfloat16'."),
        ("[tool.quantbench]\nactivations = ['float32']", "activations = ['float32']: give 'float32' or 'bfloat16'."),
        ("[tool.quantbench]\ncriteria = 3", "[tool.quantbench] criteria = 3: give tables of limits"),
        ("[tool.quantbench]\ncost = 3", "[tool.quantbench] cost = 3: give a table"),
        ("[tool.quantbench.cost]\nprice = 3", "price"),
        ("[tool.quantbench.cost]\nprice_per_hour = '3'", "[tool.quantbench.cost] price_per_hour = '3': give a number"),
        ("[tool.quantbench.cost]\nprice_per_hour = 0", "[tool.quantbench.cost] price_per_hour = 0: give a number"),
        ("[tool.quantbench.cost]\nvolume_tokens = nan", "volume_tokens = nan: give a number of tokens"),
        ("[tool.quantbench.cost]\ncurrency = 3", "[tool.quantbench.cost] currency = 3: give a currency"),
        ("[tool.quantbench.criteria]\nint4 = 5", "[tool.quantbench.criteria] int4 = 5: give a table"),
        ("[tool.quantbench.criteria]\nint4 = 'informational'", "int4 = 'informational': give a table"),
        ("[[tool.quantbench.criteria.int4]]", "int4 = [{}]: give a table"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_its_key_and_what_is_expected(tmp_path, text, told):
    with pytest.raises(QuantbenchError) as error:
        pyproject_table.read_table(written(tmp_path, text))
    assert told in str(error.value)
    assert str(tmp_path / "pyproject.toml") in str(error.value)


@pytest.mark.parametrize(
    "limit", ["nan", "-nan", "inf", "-inf", "true", "'1.0'", "[1.0]", "{}", "1979-05-27", "9" * 400]
)
def test_a_limit_that_nothing_can_be_compared_with_is_refused(tmp_path, limit):
    table = written(tmp_path, f"[tool.quantbench.criteria.int4]\nperplexity_delta = {limit}")
    with pytest.raises(
        QuantbenchError, match=r"\[tool\.quantbench\.criteria\.int4\] perplexity_delta = .*: give a number"
    ):
        pyproject_table.read_table(table)


def test_a_number_with_more_digits_than_python_reads_is_no_traceback(tmp_path):
    with pytest.raises(QuantbenchError, match="cannot be read as TOML"):
        pyproject_table.read_table(written(tmp_path, f"number = {'9' * 5000}"))


def test_values_of_the_right_kind_are_handed_on_as_they_are(tmp_path):
    table = {
        "models": ["models/mine", "a/b"],
        "report": "docs/quality.md",
        "criteria": {"int4": {"perplexity_delta": 0, "accuracy_drop_points": "informational"}, "int3": {}},
    }
    text = """
        [tool.quantbench]
        models = ["models/mine", "a/b"]
        report = "docs/quality.md"
        [tool.quantbench.criteria]
        int4 = { perplexity_delta = 0, accuracy_drop_points = "informational" }
        int3 = {}
    """
    assert pyproject_table.read_table(written(tmp_path, text)) == (tmp_path, table)
    pyproject_table.check_criteria(table["criteria"], [], [])


def test_criteria_of_unknown_names_list_the_choices():
    with pytest.raises(UnknownNameError, match=r"selector in \[tool\.quantbench\.criteria\] 'a b'.*M, MODEL-RECIPE"):
        pyproject_table.check_criteria({"a b": {}}, ["M"], ["int4"])
    with pytest.raises(UnknownNameError, match=r"metric in .*M-int4\] 'perplexity'.*perplexity_delta"):
        pyproject_table.check_criteria({"M-int4": {"perplexity": 1.0}}, ["M"], ["int4"])


@pytest.mark.parametrize("selector", ["int5", "int4-gtpq", "M-int44", "bf8", "a b", "", "-q4"])
def test_a_selector_that_no_candidate_can_be_called_is_refused(selector):
    with pytest.raises(UnknownNameError, match="Unknown selector"):
        pyproject_table.check_criteria({selector: {}}, ["M"], ["int4", "int4-gptq"])


def test_a_selector_of_another_sessions_candidate_is_told_with_what_it_may_mean():
    table = {"q4": {}, "M-q4": {}, "Mistrall": {"perplexity_delta": 1}, "int4": {}, "M": {}, "M-int4": {}}
    models, recipes = ["M", "Mistral"], ["int4"]
    assert pyproject_table.check_criteria(table, models, recipes) == "q4, M-q4 (M-int4?), Mistrall (Mistral?)"
    assert pyproject_table.check_criteria(table, models, ["q4", *recipes]) == "Mistrall (Mistral?)"
    assert pyproject_table.check_criteria({}, models, recipes) == ""


@pytest.mark.parametrize("section", ["criteria.int4", "candidates", "candidates.q4"])
def test_limits_of_one_text_or_task_stand_under_their_names(tmp_path, section):
    text = f"""
        [tool.quantbench.{section}]
        perplexity_delta = 0.5
        "perplexity_delta.c4" = 0.8
        "perplexity_delta.my.txt" = "informational"
        "accuracy_drop_points.hellaswag" = 2
    """
    _, table = pyproject_table.read_table(written(tmp_path, text))
    pyproject_table.check_criteria(table.get("criteria", {}), [], [])
    every, one = pyproject_table.candidate_limits(table.get("candidates", {}))
    found = every or one.get("q4") or table["criteria"]["int4"]
    assert list(found.values()) == [0.5, 0.8, "informational", 2]


@pytest.mark.parametrize("section", ["criteria.int4", "candidates", "candidates.q4"])
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("perplexity_delta.c4 = 0.8", r"give a number or .*in quotes, \"perplexity_delta\.c4\""),
        ('"perplexity_delta.c4" = true', r"perplexity_delta\.c4 = True: give a number"),
        ('"perplexity_delta." = 1', r"'perplexity_delta\.': give the name of a text behind the dot"),
        ('"accuracy_drop_points." = 1', "give the name of a task behind the dot"),
        ('"size_reduction_percent.c4" = 1', r"'size_reduction_percent\.c4': size_reduction_percent has no texts"),
        ('"perplexity.c4" = 1', r"Unknown metric in .*'perplexity\.c4'"),
    ],
)
def test_a_limit_of_one_text_that_is_written_otherwise_is_refused(tmp_path, section, line, told):
    def read():
        _, table = pyproject_table.read_table(written(tmp_path, f"[tool.quantbench.{section}]\n{line}"))
        pyproject_table.check_criteria(table.get("criteria", {}), [], [])
        pyproject_table.candidate_limits(table.get("candidates", {}))

    with pytest.raises(QuantbenchError, match=told):
        read()


def test_limits_of_candidates_are_for_all_of_them_or_for_one(tmp_path):
    text = """
        [tool.quantbench.candidates]
        perplexity_delta = 0.5
        throughput_ratio = "informational"
        [tool.quantbench.candidates."Q4_K_M.v2"]
        perplexity_delta = 0.8
    """
    _, table = pyproject_table.read_table(written(tmp_path, text))
    every, one = pyproject_table.candidate_limits(table["candidates"])
    assert every == {"perplexity_delta": 0.5, "throughput_ratio": "informational"}
    assert one == {"Q4_K_M.v2": {"perplexity_delta": 0.8}}
    assert pyproject_table.candidate_limits({}) == ({}, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[tool.quantbench]\ncandidates = ['q4.gguf']",
            r"candidates = \['q4.gguf'\]: give limits for all candidates, and",
        ),
        (
            "[tool.quantbench.candidates]\nperplexity_delta = true",
            r"candidates\] perplexity_delta = True: give a number",
        ),
        ("[tool.quantbench.candidates.q4]\nperplexity_delta = '1'", r"candidates\.q4\] perplexity_delta = '1': give"),
        ("[tool.quantbench.candidates]\nq4 = 3", None),
    ],
)
def test_limits_of_candidates_of_another_kind_are_refused(tmp_path, text, told):
    if told is None:  # a number is a limit, and q4 no metric
        _, table = pyproject_table.read_table(written(tmp_path, text))
        with pytest.raises(
            UnknownNameError, match=r"metric in \[tool\.quantbench\.candidates\] 'q4'.*perplexity_delta"
        ):
            pyproject_table.candidate_limits(table["candidates"])
    else:
        with pytest.raises(QuantbenchError, match=told):
            pyproject_table.read_table(written(tmp_path, text))


def test_names_of_candidates_and_metrics_are_checked():
    with pytest.raises(QuantbenchError, match=r"candidates\.'a b'\]: no candidate can be called so"):
        pyproject_table.candidate_limits({"a b": {}})
    with pytest.raises(UnknownNameError, match=r"metric in \[tool\.quantbench\.candidates\.q4\] 'perplexity'"):
        pyproject_table.candidate_limits({"q4": {"perplexity": 1.0}})


@pytest.mark.parametrize(
    ("table", "variable", "told"),
    [
        ('engine = "jax"', None, r"\[tool\.quantbench\] engine = 'jax': Unknown engine 'jax'"),
        ('engine = "mlx"', "jax", r"Unknown engine 'jax'.*The environment variable QUANTBENCH_ENGINE names it"),
        (
            'engine = "mlx"\nactivations = "bfloat16"',
            None,
            r"float32 activations only.*\(\[tool\.quantbench\] has engine = 'mlx'; \[tool\.quantbench\] has act.*'bfl",
        ),
    ],
)
def test_an_engine_that_cannot_be_had_is_told_once_with_where_it_was_said(pytester, monkeypatch, table, variable, told):
    monkeypatch.delenv("QUANTBENCH_ENGINE", raising=False)
    if variable is not None:
        monkeypatch.setenv("QUANTBENCH_ENGINE", variable)
    pytester.makepyprojecttoml(f"[tool.quantbench]\n{table}")
    gate = "def test_a(quantbench_cell):\n    pass\n"
    pytester.makepyfile(test_one=gate, test_two=gate)
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    assert len(re.findall(told, "\n".join([*done.outlines, *done.errlines]))) == 1


def test_the_engine_of_a_table_holds_where_neither_an_option_nor_the_environment_names_one(pytester, monkeypatch):
    pytester.makepyprojecttoml('[tool.quantbench]\nengine = "mlx"\nactivations = "float32"')
    for place, table in (("auto", {"engine": "mlx"}), ("mlx", {})):
        monkeypatch.setenv("QUANTBENCH_ENGINE", "" if place == "auto" else place)
        found = pyproject_table.session_defaults(pyproject_table.read_table(pytester.path)[1])
        assert found == {"activations": "float32", **table}
    monkeypatch.delenv("QUANTBENCH_ENGINE")
    assert run_of(pytester.parseconfig()).settings.engine == "mlx"
    assert run_of(pytester.parseconfig("--qb-engine", "auto")).settings.engine == "auto"
    with pytest.raises(QuantbenchError, match=r"^\[tool\.quantbench\] engine = 'jax': Unknown engine 'jax'"):
        pyproject_table.session_defaults({"engine": "jax"})
