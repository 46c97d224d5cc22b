from pathlib import Path

import pytest

from pytest_quantbench import settings
from pytest_quantbench.catalog import LEVELS
from pytest_quantbench.errors import QuantbenchError, UnknownNameError
from pytest_quantbench.recipes import Part, recipe

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
    base = settings.limit_for("perplexity_delta", "M", level, level, {})
    assert base == {"int4": 1.0, "int3": 2.5, "int2": 8.0}.get(level)
    overrides = {
        level: {"perplexity_delta": 3},
        "M": {"perplexity_delta": 2.0},
        f"M-{level}": {"perplexity_delta": 0.5},
    }
    assert settings.limit_for("perplexity_delta", "M", level, level, overrides) == 0.5
    assert settings.limit_for("perplexity_delta", "N", level, level, overrides) == 3.0
    assert settings.limit_for("perplexity_delta", "M", f"{level}-x", level, overrides) == 2.0
    silenced = {"M": {"perplexity_delta": "informational"}}
    assert settings.limit_for("perplexity_delta", "M", level, level, silenced) is None


def test_a_model_of_ones_own_is_a_directory_or_a_hub_id(tmp_path):
    (tmp_path / "mine").mkdir()
    assert settings.user_model(str(tmp_path / "mine")).name == "mine"
    assert settings.user_model("someone/thing").source == "someone/thing"
    with pytest.raises(QuantbenchError, match="neither an existing directory nor a Hub id"):
        settings.user_model("thing")
    assert settings.user_model("./nowhere").source == str(Path("nowhere").resolve())


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
        settings.read_table(tmp_path)


def test_the_nearest_table_above_a_folder_holds(tmp_path):
    inner = tmp_path / "sub" / "deeper"
    inner.mkdir(parents=True)
    assert settings.read_table(inner) == (inner, {})
    (tmp_path / "pyproject.toml").write_text('[tool.quantbench]\nreport = "far.md"')
    (tmp_path / "sub" / "pyproject.toml").write_text('[tool.quantbench]\nreport = "near.md"')
    (inner / "pyproject.toml").write_text("[tool.other]\nreport = 1")
    assert settings.read_table(inner) == (tmp_path / "sub", {"report": "near.md"})
    assert settings.read_table(tmp_path / "elsewhere", tmp_path) == (tmp_path, {"report": "far.md"})


def test_a_table_names_models_beside_it(tmp_path):
    (tmp_path / "mine").mkdir()
    assert settings.beside(tmp_path, "mine") == str(tmp_path / "mine")
    assert settings.beside(tmp_path, "someone/thing") == "someone/thing"


def test_a_linked_model_is_called_as_its_link(tmp_path):
    (tmp_path / "snapshot-1").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "snapshot-1")
    found = settings.user_model(str(tmp_path / "mine"))
    assert (found.name, found.source) == ("mine", str((tmp_path / "snapshot-1").resolve()))


@pytest.mark.parametrize("value", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_refused(value):
    with pytest.raises(QuantbenchError, match=rf"--sample-seed {value}: give a number from 0 to 4294967295"):
        settings.seed("--sample-seed", value)


def test_the_cache_is_where_its_variable_says(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path))
    assert settings.default_cache() == tmp_path
    monkeypatch.delenv("QUANTBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert settings.default_cache() == tmp_path / "xdg" / "quantbench"


def test_questions_of_a_task_that_is_not_asked_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "xy":
        (tmp_path / f"{name}.jsonl").write_text("{}")
    with pytest.raises(QuantbenchError, match="no such task is asked; those are arc_easy"):
        settings.task_files(["arc_esay=x.jsonl"], ["arc_easy"], [])
    with pytest.raises(QuantbenchError, match="those are tiny_endings, tiny_facts"):
        settings.task_files(["x=x.jsonl"], [], [settings.all_models([])["Tiny"]])
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
