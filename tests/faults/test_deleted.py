"""Weights that a disk plan deletes: only those that this run fetched, and what was measured of them is still known."""

import dataclasses
import json

import numpy as np
import pytest
from faults.acts import status
from faults.conftest import TINY

from pytest_quantbench.bench.subject import Subject
from pytest_quantbench.catalog.disk_plans import DISK_PLANS
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.catalog.settings import Settings
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.errors import DiskError, ModelError
from pytest_quantbench.fetch import download, evicted
from pytest_quantbench.storage.sealed_json import read_sealed, sealed

MODEL = dataclasses.replace(TINY, corpus="tiny-heldout", tasks=("tiny_facts",))
RECIPES = ("bf16", "int4-gptq")


@pytest.fixture
def opened(tmp_path):
    """A function that opens the model under a disk plan: another session with the same caches."""
    text = tmp_path / "calibration.txt"
    text.write_text("One fish, two fish, red fish, blue fish. " * 200)

    def subject(plan, **changes):
        made = Settings(
            cache=tmp_path / "cache",
            limit=4,
            tokens=128,
            calibration=text,
            calibration_sequences=1,
            disk_plan=DISK_PLANS[plan],
        )
        return Subject(MODEL, dataclasses.replace(made, **changes))

    return subject


def record_of(cell):
    cell.judge("size")
    cell.judge("perplexity", 1e6)
    cell.judge("accuracy", 100.0)
    _ = cell.samples("weights")
    return dataclasses.replace(cell.record(), timestamp="")


def session(subject):
    """Everything but T1 of every recipe, and then what the disk plan says."""
    chosen = [recipe(name) for name in RECIPES]
    subject.expect([(each, name) for each in chosen for name in ("perplexity", "accuracy")])
    records = [record_of(subject.cell(each)) for each in chosen]
    return records, subject.delete_weights()


def bodies(hub):
    """How often weights were transferred."""
    return len(hub.asked("cdn GET .*"))


def weight_files(tmp_path):
    return [path for path in (tmp_path / "hub").rglob("*.safetensors") if path.exists()]


@pytest.mark.parametrize("plan", ["B", "D", "S"])
def test_a_model_that_is_done_is_not_fetched_again(hub, tiny_files, tmp_path, opened, plan):
    hub.publish(TINY.source, tiny_files)
    before, freed = session(opened(plan))
    assert freed == len(tiny_files["model.safetensors"])
    assert weight_files(tmp_path) == []
    fetched = bodies(hub)
    later = opened(plan)
    after, freed = session(later)
    assert (bodies(hub), freed) == (fetched, 0)
    assert after == before
    assert "T2 of tiny-int4-gptq" in later.reused
    assert any((tmp_path / "cache").rglob("model-*.safetensors")) == DISK_PLANS[plan].stores


def test_a_config_that_leaves_the_head_open_is_that_of_its_artifacts(hub, tiny_files, opened, tmp_path):
    """Artifacts say whether the head is the embeddings, which only the weights showed: they are not there any more."""
    config = json.loads(tiny_files["config.json"])
    del config["tie_word_embeddings"]
    hub.publish(TINY.source, {**tiny_files, "config.json": json.dumps(config).encode()})
    before, _ = session(opened("B"))
    fetched = bodies(hub)
    after, _ = session(opened("B"))
    assert after == before
    assert bodies(hub) == fetched
    assert not list((tmp_path / "cache" / "artifacts").glob("damaged-*"))


def test_streaming_measures_what_stored_models_measure(hub, tiny_files, opened):
    hub.publish(TINY.source, tiny_files)
    stored, freed = session(opened("A"))
    assert freed == 0
    cache = opened("A").inputs.settings.cache.with_name("other")
    streamed, _ = session(opened("S", cache=cache))
    for mine, other in zip(streamed, stored, strict=True):
        for part in ("perplexity", "accuracy"):
            without = [dataclasses.replace(getattr(each, part), time_sec=None) for each in (mine, other)]
            assert without[0] == without[1]
        assert mine.weights == other.weights
        assert mine.weights_sha256 == other.weights_sha256
        assert mine.compression.artifact == other.compression.artifact
        assert mine.compression.compressed_gb == pytest.approx(other.compression.compressed_gb, abs=20e-6)
        assert mine.compression.bits_per_weight == pytest.approx(other.compression.bits_per_weight, abs=0.5)
    assert sorted(path.name for path in cache.iterdir()) == ["locks", "manifests", "measurements", "models"]


def test_what_is_lacking_brings_the_weights_back(hub, tiny_files, opened):
    hub.publish(TINY.source, tiny_files)
    session(opened("B"))
    fetched = bodies(hub)
    later = opened("B")
    losses = later.cell(recipe("int3-rtn")).samples("perplexity").nll_nats
    assert bodies(hub) == fetched + 1
    assert later.delete_weights() > 0
    fresh = opened("A", cache=later.inputs.settings.cache.with_name("other"))
    np.testing.assert_array_equal(losses, fresh.cell(recipe("int3-rtn")).samples("perplexity").nll_nats)


def test_weights_that_were_here_before_stay(hub, tiny_files, tmp_path, opened, monkeypatch):
    hub.publish(TINY.source, tiny_files)
    download.fetch(TINY, offline=False)
    monkeypatch.setattr(download, "_fetched", {})  # an earlier run's
    _, freed = session(opened("B"))
    assert freed == 0
    assert len(weight_files(tmp_path)) == 1


def test_weights_that_another_snapshot_has_too_stay(hub, tiny_files, opened):
    hub.publish(TINY.source, tiny_files)
    subject = opened("B")
    snapshot = subject.inputs.checkpoint.directory
    other = snapshot.with_name("0" * 40)
    other.mkdir()
    (other / "model.safetensors").symlink_to((snapshot / "model.safetensors").readlink())
    assert subject.delete_weights() == 0
    assert (other / "model.safetensors").exists()


def test_a_directory_of_the_users_stays(small_model, tmp_path):
    directory = small_model()
    model = dataclasses.replace(MODEL, source=str(directory))
    subject = Subject(model, Settings(cache=tmp_path / "cache", disk_plan=DISK_PLANS["S"]))
    assert subject.inputs.checkpoint.sha256
    assert subject.delete_weights() == 0
    assert (directory / "model.safetensors").is_file()


def test_nothing_is_fetched_to_be_deleted(hub, tiny_files, opened):
    hub.publish(TINY.source, tiny_files)
    assert opened("B").delete_weights() == 0
    assert hub.requests == []


def test_a_newer_commit_is_fetched(hub, tiny_files, opened):
    hub.publish(TINY.source, tiny_files)
    session(opened("B"))
    config = json.loads(tiny_files["config.json"]) | {"rope_theta": 20_000.0}
    commit = hub.publish(TINY.source, tiny_files | {"config.json": json.dumps(config).encode()})
    assert opened("B").inputs.checkpoint.revision == commit


def test_a_hub_that_does_not_answer_is_no_obstacle(hub, tiny_files, opened, caplog):
    hub.publish(TINY.source, tiny_files)
    before, _ = session(opened("B"))
    hub.fault("hub .*", status(503))
    assert session(opened("B"))[0] == before
    assert "Going on with what is known of commit" in caplog.text
    assert session(opened("B", offline=True))[0] == before


def test_weights_that_changed_behind_the_note_are_refused(hub, tiny_files, opened):
    hub.publish(TINY.source, tiny_files)
    subject = opened("B")
    session(subject)
    path = evicted._path(subject.inputs.settings.cache, TINY.source)
    note = dataclasses.replace(read_sealed(path, evicted.Note), weights_sha256="0" * 64)
    path.write_bytes(sealed(note))
    checkpoint = opened("B").inputs.checkpoint
    for _ in range(2):  # asking again does not help
        with pytest.raises(ModelError, match="other weights than when it was measured"):
            checkpoint.be_here()
    assert opened("B", fresh=True).inputs.checkpoint.files


def test_a_damaged_note_is_moved_aside_and_the_model_fetched(hub, tiny_files, opened, caplog):
    hub.publish(TINY.source, tiny_files)
    subject = opened("B")
    session(subject)
    path = evicted._path(subject.inputs.settings.cache, TINY.source)
    path.write_bytes(path.read_bytes()[:-9])
    fetched = bodies(hub)
    assert isinstance(opened("B").inputs.checkpoint, Checkpoint)
    assert bodies(hub) == fetched + 1
    assert "was damaged" in caplog.text


def test_weights_that_another_session_works_with_stay(hub, tiny_files, tmp_path, opened):
    hub.publish(TINY.source, tiny_files)
    subject = opened("B")
    assert subject.inputs.checkpoint.sha256
    with download.in_use(MODEL):  # a lock of another file handle, as another process would have
        assert subject.delete_weights() == 0
    assert len(weight_files(tmp_path)) == 1


def test_weights_of_a_model_that_cannot_be_opened_are_deleted_too(hub, tiny_files, tmp_path, opened):
    config = json.loads(tiny_files["config.json"]) | {"hidden_size": 32}
    hub.publish(TINY.source, tiny_files | {"config.json": json.dumps(config).encode()})
    subject = opened("B")
    with pytest.raises(ModelError):
        _ = subject.inputs.checkpoint
    assert subject.delete_weights() == len(tiny_files["model.safetensors"])
    assert weight_files(tmp_path) == []


def test_a_full_cache_does_not_keep_a_streamed_cell_from_its_record(hub, tiny_files, opened, monkeypatch, caplog):
    hub.publish(TINY.source, tiny_files)

    def full(*_):
        raise DiskError("no room")

    monkeypatch.setattr("pytest_quantbench.compress.streamed.save_manifest", full)
    cell = opened("S").cell(recipe("int4-rtn"))
    cell.judge("size")
    assert cell.record().compression.times_smaller > 1
    assert "is not kept for later sessions. no room" in caplog.text
