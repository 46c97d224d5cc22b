"""Folders and files that may not be read or written, or are something else: an error in a sentence, or no matter."""

import codecs
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from builders import make_losses, make_perplexity, make_record, make_store, make_target, open_model

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.artifact import open_artifact
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.errors import DiskError, ModelError, RecordError
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.record import folder as results
from pytest_quantbench.record.schema import read
from pytest_quantbench.storage import samples_cache
from pytest_quantbench.storage.cache import SAMPLES
from pytest_quantbench.storage.locks import held

INT4 = recipe("int4-rtn")
NOBODY = 65534


@pytest.fixture
def folder():
    """A folder that everybody may enter; pytest's own are its user's."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    for path in (made, *made.rglob("*")):
        path.chmod(0o755)
    shutil.rmtree(made)


@contextmanager
def powerless():
    """Permissions bind everybody but root, so root is nobody meanwhile."""
    user = os.geteuid()
    codecs.lookup("cp437")  # of zip archives: where Python itself may not be read, it would be missing from then on
    try:
        if user == 0:
            os.seteuid(NOBODY)
        yield
    finally:
        os.seteuid(user)


def closed(path):
    """Nobody but its owner may read or enter it, and where that is us, we may not either."""
    path.chmod(0o000)
    return path


@pytest.mark.parametrize("name", ["", "manifest.json", "config.json", "model-00001-of-00002.safetensors"])
def test_an_artifact_that_may_not_be_read_is_named_with_what_to_do(small_model, folder, name):
    made = compress(open_model(small_model(num_hidden_layers=1)), INT4, 0, folder)
    closed(made.directory / name)
    with powerless(), pytest.raises(DiskError, match=rf"{made.directory} .*cannot be moved aside.*: delete it"):
        open_artifact(made.directory)


def test_an_artifact_in_the_place_of_which_is_a_file_or_in_which_are_folders(small_model, folder):
    source = open_model(small_model(num_hidden_layers=1))
    made = compress(source, INT4, 0, folder)
    for name in ("manifest.json", "config.json", "model-00001-of-00002.safetensors"):
        (made.directory / name).unlink()
        (made.directory / name).mkdir()
        made = compress(source, INT4, 0, folder)
    shutil.rmtree(made.directory)
    made.directory.write_text("a file")
    assert compress(source, INT4, 0, folder).manifest.key == made.manifest.key
    assert len(list((folder / "artifacts").glob("damaged-*"))) == 4


@pytest.mark.parametrize("place", ["cache", "cache/artifacts"])
def test_a_cache_that_may_not_be_written_is_named(small_model, folder, place):
    source = open_model(small_model(num_hidden_layers=1))
    assert source.checkpoint.sha256
    (folder / place).mkdir(parents=True)
    with powerless(), pytest.raises(DiskError, match=rf"Cannot write {folder}/cache/.*denied.*QUANTBENCH_CACHE"):
        compress(source, INT4, 0, folder / "cache")


def test_samples_that_may_not_be_read_or_written_are_measured_and_told_of(folder, caplog):
    samples_cache.save(folder, "key", {"losses": np.arange(3)})
    closed(SAMPLES.of(folder, "key"))
    with powerless():
        assert samples_cache.load(folder, "key", dict) is None
        make_store(folder).put(make_target(), PERPLEXITY, make_losses(np.arange(3)), {})
    assert "Kept samples cannot be read" in caplog.text
    assert "Samples are not kept for later sessions" in caplog.text


def test_samples_in_the_place_of_which_is_a_folder(folder, caplog):
    SAMPLES.of(folder, "key").mkdir(parents=True)
    assert samples_cache.load(folder, "key", dict) is None
    assert "Kept samples cannot be read" in caplog.text


def test_results_that_may_not_be_read_or_written(folder, caplog):
    path = results.save(make_record(perplexity=make_perplexity()), {"perplexity/nll_nats": np.ones(3)}, folder)
    results.save(make_record(recipe="int4-rtn"), {}, folder)
    closed(path)
    with powerless():
        with pytest.raises(RecordError, match=r"Tiny_4bit\.json .*denied"):
            read(path)
        assert len(results.read_all(folder)) == 1
        for attempt in (lambda: results.check_writable(folder), lambda: results.save(make_record(), {}, folder)):
            with pytest.raises(DiskError, match=rf"Cannot write {folder}/.*denied.*--results"):
                attempt()
    assert "Left out" in caplog.text


@pytest.mark.parametrize("inside", ["", "deep/er"])
def test_results_that_are_a_file(folder, inside):
    (folder / "results").write_text("a file")
    for attempt in (results.check_writable, lambda place: results.save(make_record(), {}, place)):
        with pytest.raises(DiskError, match=rf"Cannot write {folder}/results.*--results"):
            attempt(folder / "results" / inside)
    assert (folder / "results").read_text() == "a file"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_that_may_not_be_read_is_named(small_model, folder, name):
    model = folder / "model"
    shutil.copytree(small_model(num_hidden_layers=1), model)
    assert open_model(model).checkpoint.sha256  # so that everything is imported
    closed(model / name)
    with powerless(), pytest.raises(ModelError, match=rf"{model / name} cannot be read: Permission denied"):
        _ = open_model(model).checkpoint.sha256


def test_a_lock_that_may_not_be_taken_keeps_nobody_from_reading(folder):
    with held(folder / "locks" / "lock", "counting"):
        pass
    closed(folder / "locks")
    with powerless(), held(folder / "locks" / "lock", "counting"):
        pass
