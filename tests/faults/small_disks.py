"""What runs in a namespace of its own, where disks can be mounted: small ones, and such as cannot be written.

Not collected by itself: test_mounts.py starts it there.
"""

import importlib
import subprocess

import pytest
from builders import artifact_content, make_perplexity, make_record, open_model
from faults.conftest import TINY

from pytest_quantbench.catalog.models import TINY_DIRECTORY
from pytest_quantbench.catalog.recipes import recipe
from pytest_quantbench.compress.pipeline import compress
from pytest_quantbench.errors import DiskError
from pytest_quantbench.fetch import download
from pytest_quantbench.record import folder as results
from pytest_quantbench.record.schema import read
from pytest_quantbench.storage.cache import SAMPLES

# pytester forgets modules that a run imports, and some bear being imported only once.
for module in ("altair", "mlx_lm.models.llama", "scipy.stats", "transformers.models.llama", "vl_convert"):
    importlib.import_module(module)
for module in ("bench.subject", "report.charts.sheet", "report.publish", "plugin.run"):
    importlib.import_module(f"pytest_quantbench.{module}")

INT4 = recipe("int4-rtn")
GATE = """
import pytest

@pytest.mark.size
def test_size(cell, settle):
    settle(cell.judge("size"))

@pytest.mark.t2
def test_perplexity(cell, settle):
    cell.judge("perplexity")
"""


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a disk of so many kilobytes; called again, it makes the same disk larger."""

    def mount(name, kilobytes):
        place = tmp_path / name
        options = f"size={kilobytes}k" if not place.is_mount() else f"remount,size={kilobytes}k"
        place.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)
        return place

    return mount


@pytest.fixture
def read_only():
    """A function after which nothing can be written to a folder."""

    def mount(place):
        subprocess.run(["mount", "--bind", str(place), str(place)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        return place

    return mount


@pytest.fixture
def session(pytester, monkeypatch, small_model):
    """A function that judges a small model by its size and its perplexity; returns what pytest said."""
    model = small_model()

    def run(cache, *arguments, recipes=("int4-rtn",)):
        monkeypatch.setenv("QUANTBENCH_CACHE", str(cache))
        pytester.makepyfile(test_gate=GATE)
        given = [part for name in recipes for part in ("--recipe", name)]
        fixed = f"-p no:cacheprovider --calibration none --tokens 128 --fixed --model {model} -k {model.name}".split()
        return pytester.runpytest_inprocess(*fixed, *given, "--corpus", TINY_DIRECTORY / "heldout.txt", *arguments)

    return run


@pytest.mark.parametrize("kilobytes", [4, 100, 300])
def test_a_cache_that_is_full_and_then_is_not(small_model, tmp_path, disk, kilobytes):
    source, cache = open_model(small_model()), disk("cache", kilobytes)
    with pytest.raises(DiskError, match=rf"Cannot write {cache}/artifacts/.*QUANTBENCH_CACHE"):
        compress(source, INT4, 0, cache)
    noted = {note: note.with_suffix(".safetensors").stat().st_ino for note in cache.rglob("*.done")}
    assert len(noted) == (4 if kilobytes == 300 else 0)
    made = compress(source, INT4, 0, disk("cache", 4000))
    assert artifact_content(made) == artifact_content(compress(source, INT4, 0, tmp_path / "other"))
    assert {note.stat().st_ino for note in made.directory.glob("*.safetensors")} >= {*noted.values()}


def test_a_results_folder_that_is_full_and_then_is_not(disk):
    folder, names = disk("results", 64), [f"model-{number}" for number in range(100)]

    def save_all():
        for name in names:
            results.save(make_record(model_id=name, perplexity=make_perplexity()), {}, folder)

    with pytest.raises(DiskError, match=rf"Cannot write {folder}/.*No space left on device.*--results"):
        save_all()
    written = sorted(path.stem for path in folder.glob("*.json"))
    assert 0 < len(written) < len(names)
    assert [read(folder / f"{name}.json").model_id for name in written]
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []
    disk("results", 4000)
    save_all()
    assert len(results.read_all(folder)) == len(names)


def test_a_hub_cache_that_is_full_and_then_is_not(hub, sharded_files, disk, monkeypatch):
    hub.publish("someone/tiny", sharded_files)
    monkeypatch.setenv("HF_HUB_CACHE", str(disk("hub", 500)))
    with pytest.raises(DiskError, match="HF_HOME"):
        download.fetch(TINY, offline=False)
    asked = len(hub.asked("^cdn"))
    disk("hub", 4000)
    directory, _ = download.fetch(TINY, offline=False)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == sharded_files
    assert len(hub.asked("^cdn")) > asked


def test_a_session_whose_results_do_not_fit_says_so_in_a_sentence(session, tmp_path, disk):
    result = session(tmp_path / "cache", "--results", disk("results", 8))
    result.stdout.fnmatch_lines(["*DiskError: Cannot write */results/*: No space left on device.*--results*"])
    again = session(tmp_path / "cache", "--results", disk("results", 4000))
    again.assert_outcomes(passed=4)
    again.stdout.fnmatch_lines(["*taken from there*T2 of *bf16, T2 of *int4-rtn*"])


def test_a_session_whose_samples_do_not_fit_has_them_still(session, tmp_path, disk):
    result = session(disk("cache", 4), "--results", tmp_path / "results", recipes=["bf16"])
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["note: Samples are not kept for later sessions. Cannot write *"])


def test_results_that_cannot_be_written_are_refused_before_anything_is_measured(session, tmp_path, read_only):
    (tmp_path / "results").mkdir()
    result = session(tmp_path / "cache", "--results", read_only(tmp_path / "results"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: Cannot write */results/.writable: Read-only file system.*--results*"])
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_and_has_it_all_is_all_that_is_needed(session, tmp_path, read_only):
    session(tmp_path / "cache", "--results", tmp_path / "before").assert_outcomes(passed=4)
    result = session(read_only(tmp_path / "cache"), "--results", tmp_path / "results")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["*taken from there*T2 of *bf16, T2 of *int4-rtn*"])
    assert "note:" not in result.stdout.str()


def test_a_cache_that_cannot_be_written_and_is_empty_is_named(session, tmp_path, read_only):
    (tmp_path / "cache").mkdir()
    result = session(read_only(tmp_path / "cache"), "--results", tmp_path / "results")
    result.stdout.fnmatch_lines(["*DiskError: Cannot write */cache/artifacts/*Read-only file system*QUANTBENCH_CACHE*"])
    assert "Traceback" not in result.stdout.str()
    session(tmp_path / "cache", "--results", tmp_path / "results", recipes=["bf16"]).assert_outcomes(passed=2)


def test_what_is_damaged_in_a_cache_that_cannot_be_written(session, tmp_path, read_only):
    """Samples are measured again; an artifact has to be deleted by whoever may."""
    session(tmp_path / "cache", "--results", tmp_path / "before").assert_outcomes(passed=4)
    for file in SAMPLES.all_in(tmp_path / "cache"):
        file.write_bytes(file.read_bytes()[:-1])
    read_only(tmp_path / "cache")
    result = session(tmp_path / "cache", "--results", tmp_path / "results")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["note: Kept samples are measured again. * is damaged and cannot be moved aside*"])
