"""Files whose pages are given back are no longer in memory, and those that were read are."""

import mmap

import pytest

from pytest_quantbench.errors import DiskError
from pytest_quantbench.storage import page_cache

PAGES = 300


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "weights"
    made.write_bytes(bytes(PAGES * mmap.PAGESIZE - 7))
    return made


def test_what_was_read_is_in_memory_and_what_was_dropped_is_not(file):
    page_cache.read([file])
    assert page_cache.resident_share([file]) == 1
    page_cache.drop([file])
    if page_cache.resident_share([file]) == 1:
        pytest.skip("files of this folder live in memory alone")
    assert page_cache.resident_share([file]) == 0
    assert file.stat().st_size == PAGES * mmap.PAGESIZE - 7


def test_the_share_is_of_all_pages_together(file, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(bytes(PAGES * mmap.PAGESIZE))
    empty = tmp_path / "empty"
    empty.touch()
    page_cache.drop([file, other])
    if page_cache.resident_share([file]) != 0:
        pytest.skip("files of this folder live in memory alone")
    page_cache.read([other])
    assert page_cache.resident_share([file, other, empty]) == 0.5


def test_pages_that_another_has_mapped_stay_and_are_told(file):
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert not any(mapped[:])
        page_cache.drop([file])
        assert page_cache.resident_share([file]) > 0.9


def test_of_nothing_is_nothing_there():
    assert page_cache.resident_share([]) == 0


def test_a_system_that_does_not_tell(file, monkeypatch):
    monkeypatch.setattr("sys.platform", "win32")
    assert page_cache.resident_share([file]) is None


def test_who_may_not_drop_every_page_is_told_what_it_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(page_cache, "DROP_CACHES", tmp_path / "nowhere" / "drop_caches")
    with pytest.raises(DiskError, match=r"that takes Linux and root\. Leave out --drop-caches"):
        page_cache.drop_all()
    monkeypatch.setattr(page_cache, "DROP_CACHES", tmp_path / "drop_caches")
    page_cache.drop_all()
    assert (tmp_path / "drop_caches").read_text() == "1"
