"""What is still known of a model whose weights were deleted, without any Hub. Whole sessions: tests/faults."""

import pytest

from pytest_quantbench.catalog.models import MODELS, TINY_DIRECTORY, user_model
from pytest_quantbench.errors import ModelError
from pytest_quantbench.fetch import evicted, hub_api
from pytest_quantbench.storage.files import write_atomically
from pytest_quantbench.storage.sealed_json import sealed

MODEL = user_model("someone/tiny")
COMMIT = "ab" * 20
NOTE = evicted.Note(source=MODEL.source, commit=COMMIT, weights_sha256="cd" * 32)


@pytest.fixture
def snapshot(monkeypatch, tmp_path):
    """Tiny's small files in an empty cache of the Hub, as a deletion leaves them, and the note of it."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    directory = tmp_path / "hub" / "models--someone--tiny" / "snapshots" / COMMIT
    directory.mkdir(parents=True)
    for file in TINY_DIRECTORY.glob("*.json"):
        (directory / file.name).write_bytes(file.read_bytes())
    write_atomically(tmp_path / "cache" / "models" / "someone--tiny.json", sealed(NOTE))
    return directory


def test_a_noted_model_is_known_by_its_hash_and_its_weights_are_not_here(snapshot, tmp_path):
    found = evicted.find(tmp_path / "cache", MODEL, offline=True)
    assert (found.directory, found.revision, found.sha256) == (snapshot, COMMIT, NOTE.weights_sha256)
    assert not found.is_here


def test_without_a_note_or_the_small_files_nothing_is_known(snapshot, tmp_path):
    assert evicted.find(tmp_path / "other", MODEL, offline=True) is None
    (snapshot / "config.json").unlink()
    assert evicted.find(tmp_path / "cache", MODEL, offline=True) is None


def test_what_is_here_needs_no_note(snapshot, tmp_path):
    assert evicted.find(tmp_path / "cache", MODELS["Tiny"], offline=True) is None
    (snapshot / "model.safetensors").write_bytes((TINY_DIRECTORY / "model.safetensors").read_bytes())
    assert evicted.find(tmp_path / "cache", MODEL, offline=True) is None


@pytest.mark.parametrize(("newest", "known"), [(COMMIT, True), ("ef" * 20, False), (None, True)])
def test_a_newer_commit_on_the_hub_is_another_model(snapshot, tmp_path, monkeypatch, caplog, newest, known):
    def ask(source):
        if newest is None:
            raise ModelError("The Hub does not answer.")
        return hub_api.Listing(source=source, commit=newest, files={})

    monkeypatch.setattr(evicted, "listing", ask)
    assert (evicted.find(tmp_path / "cache", MODEL, offline=False) is not None) == known
    assert ("Going on with what is known of commit" in caplog.text) == (newest is None)
