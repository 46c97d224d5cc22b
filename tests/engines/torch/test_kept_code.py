"""Machine code that is kept between processes: it is that of this source and of these versions, or it is made anew."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import numba
import numpy as np
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

import pytest_quantbench
from pytest_quantbench.engines.torch import kept_code, step_kernels
from pytest_quantbench.engines.torch.kept_code import DIGEST, Files, Kept, compiled
from pytest_quantbench.errors import DiskError

SOURCE = """
import sys
import numpy as np
from pytest_quantbench.engines.torch.kept_code import compiled

@compiled
def inner(x):
    return x * {factor}

@compiled
def outer(x):
    return inner(x) + 1

if __name__ != "__main__":
    found = outer(np.float32(2))
    print(found, sum(outer.stats.cache_hits.values()))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The file of a module with two kernels, and a folder of its own to keep their code in."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    return write(tmp_path / "qb_kernels.py", 3)


def write(file, factor):
    file.write_text(SOURCE.format(factor=factor))
    return file


def start(module, **variables):
    """A new process that imports the module, which calls its kernel."""
    root = str(Path(pytest_quantbench.__file__).parents[1])
    path = os.pathsep.join([str(module.parent), root])
    return subprocess.Popen(
        [sys.executable, "-c", "import qb_kernels"],
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process):
    """What the kernel gave, and how many kernels were found that were kept."""
    out, complaint = process.communicate(timeout=120)
    assert (process.returncode, complaint) == (0, "")
    value, hits = out.split()
    return float(value), int(hits)


def kept(tmp_path, name="outer"):
    return sorted((tmp_path / "kept").rglob(f"qb_kernels.{name}-*.code"))


@pytest.mark.slow
def test_the_next_process_finds_the_code_and_one_of_another_source_does_not(module, tmp_path):
    assert told(start(module)) == (7, 0)
    assert told(start(module)) == (7, 1)
    assert len(kept(tmp_path)) == 1
    write(module, 5)  # of the same length, and only the function changes that the other calls
    assert told(start(module)) == (11, 0)
    assert told(start(module)) == (11, 1)
    write(module, 3)
    assert told(start(module)) == (7, 1)  # that of the older source is still there, and only for it


@pytest.mark.slow
def test_two_processes_at_once(module, tmp_path):
    found = [told(each) for each in [start(module) for _ in range(3)]]
    assert {value for value, _ in found} == {7}  # whichever of them was first: others may find its code
    assert told(start(module)) == (7, 1)
    assert len(kept(tmp_path)) == 1
    assert not list((tmp_path / "kept").rglob("*.tmp"))


@pytest.mark.slow
def test_without_a_folder_to_write_in(module, tmp_path):
    """Root may write everywhere, but nobody can make a folder where a file lies."""
    (tmp_path / "kept").write_text("a file")
    (tmp_path / "__pycache__").write_text("a file")
    (tmp_path / "home").write_text("a file")
    nowhere = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    assert told(start(module, **nowhere)) == (7, 0)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel that is kept in a folder of its own; making it again is as another process would."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))

    def qb_twice(x):
        return x * np.float32(2)

    return lambda: compiled(qb_twice)


def hits(dispatcher):
    assert dispatcher(np.float32(4)) == 8
    return sum(dispatcher.stats.cache_hits.values())


def only(tmp_path):
    (file,) = (tmp_path / "kept").rglob("*.code")
    return file


def test_code_is_kept_and_found(kernel, tmp_path):
    assert hits(kernel()) == 0
    assert hits(kernel()) == 1
    content = only(tmp_path).read_bytes()
    assert hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]


@pytest.mark.parametrize(
    "damage",
    [lambda whole: b"", lambda whole: whole[:DIGEST], lambda whole: whole[:-1], lambda whole: whole[:-9] + bytes(9)],
    ids=["empty", "head", "cut", "changed"],
)
def test_damaged_code_is_made_anew_and_mended(kernel, tmp_path, damage):
    hits(kernel())
    file = only(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert hits(kernel()) == 0
    assert only(tmp_path) == file
    assert hits(kernel()) == 1


@pytest.mark.parametrize("of", ["numba", "llvmlite", "sys"])
def test_code_of_another_version_is_not_found(kernel, tmp_path, monkeypatch, of):
    hits(kernel())
    monkeypatch.setattr(kept_code, of, type("Other", (), {"__version__": "0.0.1", "version": "2.7"}))
    assert hits(kernel()) == 0
    assert len(list((tmp_path / "kept").rglob("*.code"))) == 2
    assert hits(kernel()) == 1


def test_code_for_another_processor_or_other_types_lies_elsewhere(tmp_path):
    files = Files(tmp_path, "stem", "source")
    key = ((numba.float32,), ("x86_64", "znver4", "+avx512f"), ("a", "b"))
    others = [
        ((numba.float64,), *key[1:]),
        (key[0], ("x86_64", "znver2", "+avx2"), key[2]),
        (*key[:2], ("other bytecode", "b")),
    ]
    paths = {each.at(key) for each in (files, Files(tmp_path, "stem", "other"))} | {files.at(each) for each in others}
    assert len(paths) == 5


def test_a_full_disk_is_no_error(kernel, tmp_path, monkeypatch):
    def full(path, content):
        raise DiskError(f"Cannot write {path}: No space left on device.")

    monkeypatch.setattr(kept_code, "write_atomically", full)
    assert [hits(kernel()), hits(kernel())] == [0, 0]
    assert not list((tmp_path / "kept").rglob("*.code"))


def test_a_folder_that_is_gone_or_unreadable_is_no_error(kernel, tmp_path):
    hits(kernel())
    folder = only(tmp_path).parent
    only(tmp_path).unlink()
    folder.rmdir()
    folder.write_text("a file where the folder was")
    assert hits(kernel()) == 0


def test_the_kernels_of_a_step_are_kept():
    made = [each for each in vars(step_kernels).values() if isinstance(each, Dispatcher)]
    assert len(made) == 4
    caches = [vars(each)["_cache"] for each in made]
    assert all(isinstance(each, Kept | NullCache) for each in caches)
    assert any(isinstance(each, Kept) for each in caches) or not os.access(Path(step_kernels.__file__).parent, os.W_OK)
