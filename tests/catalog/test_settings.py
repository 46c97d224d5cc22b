import os
from pathlib import Path

import pytest

from pytest_quantbench.catalog import criteria, models, settings
from pytest_quantbench.catalog.recipes import LEVELS, Part, recipe
from pytest_quantbench.errors import QuantbenchError, UnknownNameError
from pytest_quantbench.plugin import pyproject_table

METHODS = ["identity", "nibble", "rtn"]


def test_recipes_by_level_and_by_method():
    default, named = recipe("int4", METHODS), recipe("int4-rtn", METHODS)
    assert (default.level, default.method, default.bits) == ("int4", None, 4)
    assert default.inner == Part(quantizer="nibble", parameters={"bits": 4})
    assert (named.method, named.inner) == ("rtn", Part(quantizer="rtn", parameters={"bits": 4}))
    assert recipe("int3", METHODS).outer.parameters == {"bits": 4, "group_size": 64}
    assert recipe("int8", METHODS).outer.parameters["bits"] == 8
    assert recipe("bf16", METHODS).outer.quantizer == "identity"
    assert recipe("int2-my.package:Thing", METHODS).inner.quantizer == "my.package:Thing"


@pytest.mark.parametrize("name", ["int5", "int4-gqtp", "", "rtn", "INT4"])
def test_recipes_that_do_not_exist_list_those_that_do(name):
    with pytest.raises(UnknownNameError, match=r"Choose from: .*int4.*package\.module:Class"):
        recipe(name, METHODS)


@pytest.mark.parametrize("level", LEVELS)
def test_limits_are_the_most_specific_ones(level):
    base = criteria.limit_for("perplexity_delta", "M", level, level, {})
    assert base == {"int4": 1.0, "int3": 2.5, "int2": 8.0}.get(level)
    overrides = {
        level: {"perplexity_delta": 3},
        "M": {"perplexity_delta": 2.0},
        f"M-{level}": {"perplexity_delta": 0.5},
    }
    assert criteria.limit_for("perplexity_delta", "M", level, level, overrides) == 0.5
    assert criteria.limit_for("perplexity_delta", "N", level, level, overrides) == 3.0
    assert criteria.limit_for("perplexity_delta", "M", f"{level}-x", level, overrides) == 2.0
    silenced = {"M": {"perplexity_delta": "informational"}}
    assert criteria.limit_for("perplexity_delta", "M", level, level, silenced) is None


def test_a_model_of_ones_own_is_a_directory_or_a_hub_id(tmp_path):
    (tmp_path / "mine").mkdir()
    assert models.user_model(str(tmp_path / "mine")).name == "mine"
    assert models.user_model("someone/thing").source == "someone/thing"
    with pytest.raises(QuantbenchError, match="neither an existing directory nor a Hub id"):
        models.user_model("thing")
    assert models.user_model("./nowhere").source == str(Path("nowhere").resolve())


@pytest.mark.parametrize(("text", "count"), [("512", 512), ("all", None)])
def test_token_counts(text, count):
    assert settings.token_count("--tokens", text) == count


@pytest.mark.parametrize("text", ["1", "0", "-5", "many", "1.5", ""])
def test_impossible_token_counts(text):
    with pytest.raises(QuantbenchError, match="--tokens"):
        settings.token_count("--tokens", text)


def test_task_files_are_name_and_path(tmp_path):
    file = tmp_path / "x=y.jsonl"
    with pytest.raises(QuantbenchError, match=rf"--task-data a={file}: there is no such file"):
        settings.task_files([f"a={file}"], ["a"], [])
    file.write_text("{}")
    assert settings.task_files([f"a={file}"], ["a"], []) == {"a": file}
    for broken in ("a", "=b", "a="):
        with pytest.raises(QuantbenchError, match="NAME=FILE"):
            settings.task_files([broken], [], [])


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


def test_a_linked_model_is_called_as_its_link(tmp_path):
    (tmp_path / "snapshot-1").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "snapshot-1")
    found = models.user_model(str(tmp_path / "mine"))
    assert (found.name, found.source) == ("mine", str((tmp_path / "snapshot-1").resolve()))


@pytest.mark.parametrize("value", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_refused(value):
    with pytest.raises(QuantbenchError, match=rf"--sample-seed {value}: give a number from 0 to 4294967295"):
        settings.seed("--sample-seed", value)


def test_questions_of_a_task_that_is_not_asked_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "xy":
        (tmp_path / f"{name}.jsonl").write_text("{}")
    with pytest.raises(QuantbenchError, match="no such task is asked; those are arc_easy"):
        settings.task_files(["arc_esay=x.jsonl"], ["arc_easy"], [])
    with pytest.raises(QuantbenchError, match="those are tiny_endings, tiny_facts"):
        settings.task_files(["x=x.jsonl"], [], [models.all_models([])["Tiny"]])
    assert settings.task_files(["mmlu_anatomy=x.jsonl", "mmlu_virology=y.jsonl"], ["mmlu"], [])
    assert settings.task_files(["own=x.jsonl"], ["some/own.yaml"], [])


def test_several_texts_are_all_kept(tmp_path):
    first, second = tmp_path / "one.txt", tmp_path / "two.txt"
    for file in (first, second):
        file.write_text("text")
    assert settings.corpora([str(first), "ptb", str(second)]) == (first, "ptb", second)
    assert settings.corpora([]) == ()


def test_two_texts_of_one_name_are_refused(tmp_path):
    (tmp_path / "one.txt").write_text("text")
    with pytest.raises(QuantbenchError, match=r"two texts are called one\.txt"):
        settings.corpora([str(tmp_path / "one.txt")] * 2)


@pytest.mark.parametrize(
    ("context", "stride", "sampling", "most"),
    [(None, 257, "windows", 256), (None, 2049, "head", 2048), (100, 101, "windows", 100), (64, 0, "head", 64)],
)
def test_a_stride_beyond_the_window_is_refused(context, stride, sampling, most):
    with pytest.raises(QuantbenchError, match=f"a number from 1 to the context, {most}"):
        settings.strided(context, stride, sampling)
    assert settings.strided(context, most, sampling) == most


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
        ("[tool.quantbench]\ncriteria = 3", "[tool.quantbench] criteria = 3: give tables of limits"),
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
    with pytest.raises(UnknownNameError, match=r"selector in \[tool\.quantbench\.criteria\] 'N'.*M, MODEL-RECIPE"):
        pyproject_table.check_criteria({"N": {}}, ["M"], ["int4"])
    with pytest.raises(UnknownNameError, match=r"metric in .*M-int4\] 'perplexity'.*perplexity_delta"):
        pyproject_table.check_criteria({"M-int4": {"perplexity": 1.0}}, ["M"], ["int4"])


@pytest.mark.parametrize("source", ["/nowhere/at/all", "./nowhere", "../nowhere", "~/nowhere", "~nobody-here/model"])
def test_a_path_where_nothing_is_is_no_model(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    models.user_model(source)  # no traceback of a user who is not there
    with pytest.raises(QuantbenchError, match=rf"^models: {source}: there is no such directory\.$"):
        models.check_models([source], "models:")


def test_a_model_is_a_directory_with_a_config(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "model.gguf").touch()
    for source in (str(tmp_path / "mine"), "~/mine"):
        with pytest.raises(QuantbenchError, match="this directory has no config"):
            models.check_models([source])
    with pytest.raises(QuantbenchError, match=r"--model .*model\.gguf: this is a file"):
        models.check_models([str(tmp_path / "model.gguf")])
    (tmp_path / "mine" / "config.json").touch()
    models.check_models([str(tmp_path / "mine"), "~/mine", "nowhere/there"])  # the last may be on the Hub


@pytest.mark.parametrize("source", ["thing", "a/b/c", "a/", "n" * 300])
def test_what_is_neither_is_told_with_where_it_was_given(source):
    with pytest.raises(QuantbenchError, match=rf"models: '{source}' is neither"):
        models.user_model(source, "models:")


def test_a_model_that_is_given_twice_counts_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "moe").mkdir()
    given = ["moe", "./moe/", str(tmp_path / "moe"), os.path.join("..", tmp_path.name, "moe"), "Qwen/Qwen3-8B"]
    own = models.all_models(map(models.user_model, given))
    assert set(own) - set(models.MODELS) == {"moe"}
    assert own["Qwen3-8B"] is models.MODELS["Qwen3-8B"]


def test_two_models_of_one_name_are_told_with_both_sources():
    with pytest.raises(QuantbenchError, match="Two models are called 'moe', a/moe and b/moe; leave one"):
        models.all_models(map(models.user_model, ["a/moe", "b/moe"]))
