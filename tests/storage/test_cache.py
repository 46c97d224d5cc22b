"""The layout of the cache, as earlier versions have it on users' disks and docs/disk.md tells it."""

from pathlib import Path

import pytest

from pytest_quantbench.storage import cache as layout
from pytest_quantbench.storage.cache import default_cache
from pytest_quantbench.storage.files import set_aside

KEY = "0ab1" * 8
PATHS = {
    "ARTIFACTS": f"artifacts/{KEY}",
    "UNFINISHED": f"artifacts/.building-{KEY}",
    "SAMPLES": f"measurements/{KEY}.samples",
    "WRITTEN_TEXTS": f"texts/{KEY}.json",
    "MANIFESTS": f"manifests/{KEY}.json",
    "DELETED_MODELS": f"models/{KEY}.json",
    "LOCKS": f"locks/{KEY}",
}


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("QUANTBENCH_CACHE", str(tmp_path / "mine"))
    assert default_cache() == tmp_path / "mine"
    monkeypatch.delenv("QUANTBENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "quantbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "quantbench"


def test_every_place_is_known():
    assert set(PATHS) == {name for name, place in vars(layout).items() if isinstance(place, layout.Place)}


@pytest.mark.parametrize(("name", "path"), PATHS.items())
def test_a_place_has_its_name_and_finds_what_lies_there(tmp_path, name, path):
    place = getattr(layout, name)
    assert place.of(tmp_path, KEY) == tmp_path / path
    assert list(place.all_in(tmp_path)) == []
    place.of(tmp_path, KEY).parent.mkdir()
    for key in (KEY, f"{KEY}0", "thesis"):
        place.of(tmp_path, key).write_text("")
    found = {KEY, f"{KEY}0", "thesis"} if place.keys == "*" else {KEY}
    assert set(place.all_in(tmp_path)) == {place.of(tmp_path, key) for key in found}


@pytest.mark.parametrize("name", PATHS)
def test_what_is_set_aside_is_found_under_its_other_name_alone(tmp_path, name):
    place = getattr(layout, name)
    place.of(tmp_path, KEY).parent.mkdir()
    names = []
    for _ in range(2):
        place.of(tmp_path, KEY).write_text("")
        names.append(set_aside(place.of(tmp_path, KEY)))
    assert sorted(place.set_aside_in(tmp_path)) == names
    if place.keys != "*":
        assert list(place.all_in(tmp_path)) == []


def test_the_lock_of_all_sessions(tmp_path):
    assert layout.in_use(tmp_path) == tmp_path / "locks" / "in-use"
