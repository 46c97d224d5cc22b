"""Files that are written whole or not at all, and how they are known again."""

import hashlib
import os

import pytest

from pytest_quantbench.errors import DiskError
from pytest_quantbench.storage import files
from pytest_quantbench.storage.files import file_sha256, free_bytes, git_sha1, set_aside, write_atomically


def test_free_space_is_that_of_the_nearest_folder_that_exists(tmp_path):
    assert free_bytes(tmp_path / "not" / "yet") == pytest.approx(free_bytes(tmp_path), rel=0.1)


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "er" / "file"
    for content in (b"first", b"a second, longer one", b""):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_used_up(tmp_path):
    (tmp_path / ".file.tmp").write_bytes(b"half of something longer")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"Cannot write .*r\.json: No space left on device\. Choose another folder"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["r.json"]


def test_what_is_set_aside_takes_the_next_free_name(tmp_path):
    for text in ("first", "second"):
        (tmp_path / "x.json").write_text(text)
        set_aside(tmp_path / "x.json")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "damaged-x.json-1": "first",
        "damaged-x.json-2": "second",
    }


def test_what_cannot_be_set_aside_is_named(tmp_path):
    with pytest.raises(DiskError, match=r"gone is damaged and cannot be moved aside \(No such file.*\): delete it"):
        set_aside(tmp_path / "gone")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 2**18, 2**20 + 1])
def test_a_file_has_the_hash_of_its_bytes(tmp_path, size):
    content = bytes(number % 251 for number in range(size))
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    assert git_sha1(tmp_path / "file") == hashlib.sha1(b"blob %d\0" % size + content).hexdigest()


def test_published_hashes(tmp_path):
    """FIPS 180-4's example, and what `git hash-object` says."""
    (tmp_path / "file").write_bytes(b"abc")
    assert file_sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (tmp_path / "file").write_bytes(b"")
    assert git_sha1(tmp_path / "file") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def test_the_name_of_what_was_set_aside_is_a_pattern_too():
    assert files.aside_name("*.samples", "*") == "damaged-*.samples-*"
