import os
from pathlib import Path

import pytest

from pytest_quantbench.catalog import models
from pytest_quantbench.errors import QuantbenchError


def test_a_model_of_ones_own_is_a_directory_or_a_hub_id(tmp_path):
    (tmp_path / "mine").mkdir()
    assert models.user_model(str(tmp_path / "mine")).name == "mine"
    assert models.user_model("someone/thing").source == "someone/thing"
    with pytest.raises(QuantbenchError, match="neither an existing directory nor a Hub id"):
        models.user_model("thing")
    assert models.user_model("./nowhere").source == str(Path("nowhere").resolve())


def test_a_linked_model_is_called_as_its_link(tmp_path):
    (tmp_path / "snapshot-1").mkdir()
    (tmp_path / "mine").symlink_to(tmp_path / "snapshot-1")
    found = models.user_model(str(tmp_path / "mine"))
    assert (found.name, found.source) == ("mine", str((tmp_path / "snapshot-1").resolve()))


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
