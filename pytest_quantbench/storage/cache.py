"""Where everything lies in the cache. What this module does not name is none of ours, and is never touched."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.storage.files import aside_name

HASH = "[0-9a-f]" * 32  # as a pattern of file names


def default_cache() -> Path:
    """`$QUANTBENCH_CACHE`, or `quantbench` in the user's cache directory."""
    chosen = os.environ.get("QUANTBENCH_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(chosen) if chosen else Path(base) / "quantbench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Things of one kind: their folder under the cache, and their names, in which `{}` stands for the key of each.

    `keys` is a pattern of what a key can be: by it they are told from a user's own files.
    """

    folder: str
    name: str
    keys: str = HASH

    def of(self, cache: Path, key: str) -> Path:
        """Where the one of this key is or will be."""
        return cache / self.folder / self.name.format(key)

    def all_in(self, cache: Path) -> Iterator[Path]:
        """Those that are there."""
        return (cache / self.folder).glob(self.name.format(self.keys))

    def set_aside_in(self, cache: Path) -> Iterator[Path]:
        """Those that were damaged and got another name (see `files.set_aside`)."""
        return (cache / self.folder).glob(aside_name(self.name.format(self.keys), "*"))


ARTIFACTS = Place(folder="artifacts", name="{}")  # folders: compressed models
UNFINISHED = Place(folder="artifacts", name=".building-{}")  # folders: what a compression has made so far
SAMPLES = Place(folder="measurements", name="{}.samples")
WRITTEN_TEXTS = Place(folder="texts", name="{}.json")  # calibration texts that models have written themselves
MANIFESTS = Place(folder="manifests", name="{}.json", keys="*")  # of artifacts that are not on disk
DELETED_MODELS = Place(
    folder="models", name="{}.json", keys="*"
)  # notes of models whose weights were deleted, by source
LOCKS = Place(folder="locks", name="{}", keys="*")
MANIFEST_FILE = "manifest.json"  # in the folder of an artifact


def in_use(cache: Path) -> Path:
    """The lock that all sessions hold together that work in a cache."""
    return LOCKS.of(cache, "in-use")
