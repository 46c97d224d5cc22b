"""Disks without room: one sentence that names the folder and the way out, what is finished stays, and the rerun with
room gives the bytes of a run that always had it.

Where a small disk can be mounted in a namespace of our own, whole sessions run on one; elsewhere a file cannot grow
beyond a size.
"""

import dataclasses
import resource
from contextlib import contextmanager

import mlx.core as mx
import numpy as np
import pytest
from builders import (
    artifact_content,
    make_losses,
    make_perplexity,
    make_record,
    make_store,
    make_target,
    open_model,
)

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.calibration import CalibrationSet
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.compress.writer import Build
from pytest_quantbench.engines.hidden_states import HiddenStates
from pytest_quantbench.errors import DiskError
from pytest_quantbench.fetch.texts import Text
from pytest_quantbench.measures.perplexity.measure import PERPLEXITY
from pytest_quantbench.record import folder as results
from pytest_quantbench.record.schema import read


@contextmanager
def no_file_larger_than(size):
    """Writing beyond so many bytes is an OSError, or what MLX makes of it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def compressed(directory, cache, recipe_id="int4-rtn", **rest):
    text = Text(name="text", content=(TINY_DIRECTORY / "heldout.txt").read_text())
    calibration = CalibrationSet(text=text, sequences=4)
    return compress(open_model(directory), recipe(recipe_id), 0, cache, lambda: calibration, **rest)


def litter(folder):
    return [path.name for path in folder.rglob("*") if path.name.endswith((".tmp", ".done")) or path.name[0] == "."]


@pytest.mark.parametrize("recipe_id", ["int4-rtn", "int4-gptq"])
@pytest.mark.parametrize(("where", "again"), [("in the first file", 2), ("in the second", 1), ("behind them all", 0)])
def test_an_artifact_goes_on_when_there_is_room(small_model, tmp_path, monkeypatch, where, again, recipe_id):
    directory = small_model(intermediate_size=2048, num_hidden_layers=1)
    with (directory / "tokenizer.json").open("a") as file:
        file.write(" " * 300_000)
    whole = compressed(directory, tmp_path / "other", recipe_id)
    sizes = [file.stat().st_size for file in sorted(whole.directory.glob("*.safetensors"))]
    assert sizes[0] < sizes[1] < (whole.directory / "tokenizer.json").stat().st_size
    limits = {"in the first file": 0, "in the second": sizes[1] - 1, "behind them all": max(sizes)}
    with no_file_larger_than(limits[where]), pytest.raises(DiskError, match="QUANTBENCH_CACHE") as caught:
        compressed(directory, tmp_path / "cache", recipe_id)
    assert str(tmp_path / "cache" / "artifacts") in str(caught.value)
    encoded, original = [], Build._made
    monkeypatch.setattr(Build, "_made", lambda *given: (encoded.append(given[1]), original(*given))[1])
    assert artifact_content(compressed(directory, tmp_path / "cache", recipe_id)) == artifact_content(whole)
    assert len(encoded) == again
    assert litter(tmp_path / "cache") == []


@pytest.mark.parametrize("cut", [1, 2, 100])
def test_a_layer_that_is_cut_short_is_never_noted_as_done(small_model, tmp_path, cut):
    """MLX writes a safetensors file in pieces: whichever of them does not fit, it says so."""
    directory = small_model()
    whole = compressed(directory, tmp_path / "other")
    largest = max(whole.directory.glob("*.safetensors"), key=lambda file: file.stat().st_size)
    with (
        no_file_larger_than(largest.stat().st_size - cut),
        pytest.raises(DiskError, match=r"Unable to write .* MB are free.*QUANTBENCH_CACHE"),
    ):
        compressed(directory, tmp_path / "cache")
    (building,) = (tmp_path / "cache" / "artifacts").iterdir()
    assert not (building / largest.name).with_suffix(".done").exists()


def test_samples_for_which_there_is_no_room_are_not_kept_and_no_error(tmp_path, caplog):
    store, target, losses = make_store(tmp_path), make_target(), make_losses(np.arange(1000))
    with no_file_larger_than(100):
        store.put(target, PERPLEXITY, losses, {})
    assert store.get(target, PERPLEXITY) is losses
    assert "Samples are not kept for later sessions. Cannot write" in caplog.text
    assert litter(tmp_path) == []
    store.put(target, PERPLEXITY, losses, {})
    assert len(list((tmp_path / "measurements").iterdir())) == 1


def test_a_record_for_which_there_is_no_room_leaves_the_one_before(tmp_path):
    results.save(make_record(), {}, tmp_path)
    with (
        no_file_larger_than(100),
        pytest.raises(DiskError, match=r"Cannot write .*Tiny_4bit.*: File too large.*--results"),
    ):
        results.save(make_record(perplexity=make_perplexity()), {"perplexity/nll_nats": np.arange(99)}, tmp_path)
    assert dataclasses.replace(read(tmp_path / "Tiny_4bit.json"), raw_sha256=None) == make_record()
    assert litter(tmp_path) == []


def test_hidden_states_for_which_there_is_no_room_name_the_folder(tmp_path, monkeypatch):
    """They are mapped into memory: were they not written first, a full disk would end the process without a word."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    states = HiddenStates(0, np.asarray, mx.array)
    with (
        no_file_larger_than(1000),
        pytest.raises(DiskError, match=rf"{tmp_path}: File too large\. Set TMPDIR .*--memory"),
    ):
        states.append(mx.ones((100, 100)))
    states.append(mx.arange(10_000, dtype=mx.float32).reshape(100, 100))
    states[0] = states[0] + 1
    assert mx.array_equal(states[0], mx.arange(10_000).reshape(100, 100) + 1)


def test_hidden_states_that_do_not_fit_end_a_compression_with_their_own_folder(small_model, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = small_model()
    with no_file_larger_than(200_000), pytest.raises(DiskError, match="TMPDIR"):
        compressed(directory, tmp_path / "cache", "int4-gptq", memory_bytes=0)
