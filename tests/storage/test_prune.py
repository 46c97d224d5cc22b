"""What `quantbench prune` shows and deletes: what is ours, of the kinds that were named, and nothing else."""

import subprocess
import sys

import pytest
from builders import open_model

from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.errors import DiskError, UnknownNameError
from pytest_quantbench.storage.cache import in_use
from pytest_quantbench.storage.locks import held, shared
from pytest_quantbench.storage.prune import entries, listed, prune

KEY = "0ab1" * 8


@pytest.fixture
def cache(small_model, tmp_path, monkeypatch):
    """An artifact, what an interruption left, samples, something damaged, and things that are none of ours."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("QUANTBENCH_CACHE", str(folder))
    compress(open_model(small_model()), recipe("int4-rtn"), 0, folder)
    (folder / "measurements").mkdir()
    (folder / "measurements" / f"{KEY}.samples").write_bytes(b"12345")
    (folder / "measurements" / f"damaged-{KEY}.samples-1").write_bytes(b"123")
    (folder / "artifacts" / f".building-{KEY}").mkdir()
    (folder / "artifacts" / f".building-{KEY}" / "model-00001-of-00004.safetensors").write_bytes(b"1" * 100)
    (folder / "thesis.txt").write_text("mine")
    (folder / "photos").mkdir()
    (folder / "photos" / "damaged-roof.jpg").write_text("mine")
    (folder / "artifacts" / "README").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "photo").write_text("mine")
    (folder / "artifacts" / ("cafe" * 8)).symlink_to(tmp_path / "elsewhere")
    return folder


def kinds(cache):
    return [(entry.kind, entry.size) for entry in entries(cache)]


def test_everything_is_listed_with_its_size_and_model(cache):
    (artifact, size), *rest = kinds(cache)
    assert artifact == "artifacts"
    assert size > 100_000
    assert rest == [("unfinished", 100), ("samples", 5), ("damaged", 3)]
    lines = list(listed(cache))
    assert any("int4-rtn of" in line and "llama-0-0" in line for line in lines)
    assert "quantbench prune artifacts | unfinished | samples | texts | damaged | all" in lines[-1]


@pytest.mark.parametrize("kind", ["artifacts", "unfinished", "samples", "damaged"])
def test_only_what_was_named_is_deleted(cache, kind):
    before = kinds(cache)
    freed = prune(cache, [kind])
    assert kinds(cache) == [each for each in before if each[0] != kind]
    assert freed == sum(size for name, size in before if name == kind)


def test_all_is_all_of_ours(cache, tmp_path):
    prune(cache, ["all"])
    assert kinds(cache) == []
    assert (cache / "thesis.txt").read_text() == "mine"
    assert (cache / "photos" / "damaged-roof.jpg").read_text() == "mine"
    assert (cache / "artifacts" / "README").read_text() == "mine"
    assert (tmp_path / "elsewhere" / "photo").read_text() == "mine"
    assert (cache / "artifacts" / ("cafe" * 8)).is_symlink()


def test_an_unreadable_manifest_is_shown_as_such(cache):
    for manifest in cache.glob("artifacts/*/manifest.json"):
        manifest.write_text("{")
    assert any("whose manifest cannot be read" in line for line in listed(cache))


def test_nothing_is_deleted_while_a_session_is_at_work(cache):
    program = (
        "import sys, time; from pathlib import Path; from pytest_quantbench.storage.locks import shared\n"
        "with shared(Path(sys.argv[1]), 'working'): print('in', flush=True); sys.stdin.read()"
    )
    before = kinds(cache)
    session = subprocess.Popen(
        [sys.executable, "-c", program, str(in_use(cache))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert session.stdout.readline() == "in\n"
    with shared(in_use(cache), "working"):  # two may be at work
        pass
    with pytest.raises(DiskError, match="A session is at work"):
        prune(cache, ["all"])
    assert kinds(cache) == before
    session.communicate()
    with held(in_use(cache), "deleting", waits=False) as free:
        assert free


def test_other_kinds_are_refused(cache):
    with pytest.raises(UnknownNameError, match="Choose from: all, artifacts"):
        prune(cache, ["models"])


def test_an_empty_cache_is_no_error(tmp_path):
    assert next(listed(tmp_path / "none")).startswith("0.000 GB")
    assert prune(tmp_path / "none", ["all"]) == 0
