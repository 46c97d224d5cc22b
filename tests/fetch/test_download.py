"""What is here and what is not, without any Hub. Fetching itself, with all that can go wrong: tests/faults."""

import json

import pytest

from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY, user_model
from pytest_quantbench.checkpoints.shards import INDEX
from pytest_quantbench.errors import ModelError, OfflineError
from pytest_quantbench.fetch import download, hub_api

LLAMA = MODELS["Llama-3.1-8B-Instruct"]


@pytest.fixture
def empty_hub(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub" / f"models--{LLAMA.source.replace('/', '--')}"


def snapshot(folder, commit, *names):
    directory = folder / "snapshots" / commit
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_text("{}")
    return directory


def test_a_directory_is_here_and_a_hub_model_is_not(empty_hub):
    assert download.is_here(MODELS["Tiny"])
    assert download.fetch(MODELS["Tiny"], offline=True) == (TINY_DIRECTORY, None)
    assert not download.is_here(LLAMA)


def test_a_snapshot_counts_only_with_its_weights(empty_hub):
    directory = snapshot(empty_hub, "abc", "config.json")
    assert not download.is_here(LLAMA)
    (directory / "model.safetensors").write_text("")
    assert download.is_here(LLAMA)


def test_a_snapshot_counts_only_with_every_file_that_its_index_names(empty_hub):
    directory = snapshot(empty_hub, "abc", "config.json", "model-1.safetensors")
    names = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (directory / INDEX).write_text(json.dumps({"weight_map": names}))
    assert not download.is_here(LLAMA)
    (directory / "model-2.safetensors").write_text("")
    assert download.is_here(LLAMA)


def test_a_link_to_a_blob_that_is_gone_is_not_here(empty_hub):
    directory = snapshot(empty_hub, "abc", "config.json")
    (directory / "model.safetensors").symlink_to("../../blobs/gone")
    assert not download.is_here(LLAMA)


def test_offline_takes_the_commit_of_main_and_else_the_newest(empty_hub):
    for commit in ("first", "second", "third"):
        snapshot(empty_hub, commit, "config.json", "model.safetensors")
    assert download.cached(LLAMA.source).name == "third"
    (empty_hub / "refs").mkdir()
    (empty_hub / "refs" / "main").write_text("first")
    assert download.fetch(LLAMA, offline=True) == (empty_hub / "snapshots" / "first", "first")
    (empty_hub / "refs" / "main").write_text("never fetched")
    assert download.cached(LLAMA.source).name == "third"


def test_offline_names_what_is_lacking_and_the_way_out(empty_hub):
    with pytest.raises(OfflineError, match=r"Llama-3\.1-8B-Instruct is not in the Hub's cache .*--model DIRECTORY"):
        download.fetch(LLAMA, offline=True)


def test_no_network_is_one_sentence(empty_hub, monkeypatch):
    """A real attempt, at a port of this machine where nobody listens."""
    monkeypatch.setattr(hub_api, "PAUSES_SECONDS", ())
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        OfflineError, match=r"Llama-3\.1-8B-Instruct could not be fetched from .* \(.*Connection refused\)"
    ):
        download.fetch(LLAMA, offline=False)


def test_a_name_that_is_no_hub_id_is_refused_without_asking(empty_hub):
    with pytest.raises(ModelError, match="'some one/tiny' is not a Hub id"):
        download.fetch(user_model("some one/tiny"), offline=False)
