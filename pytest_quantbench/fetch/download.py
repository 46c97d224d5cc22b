"""Fetch a model from the Hub: its commit, the files that we chose, each checked against the Hub's checksum.

We choose the files (safetensors, configuration, tokenizer; never a pickle, never code) and pin the commit before the
first byte; how they come is in `transfer`.
"""

import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from pytest_quantbench.catalog.models import Model
from pytest_quantbench.checkpoints.config import read_config
from pytest_quantbench.checkpoints.hub_cache_file import is_shared, remove
from pytest_quantbench.checkpoints.shards import INDEX, chosen_names, instead, is_pickle, read_weights, weight_files
from pytest_quantbench.errors import ModelError, OfflineError, QuantbenchError
from pytest_quantbench.fetch.hub_api import HubFile, Listing, hub_cache, listing
from pytest_quantbench.fetch.transfer import (
    alone,
    bring,
    check_room,
    folder,
    indexed_weights,
    lock,
    point,
    trusted,
    working_with,
)
from pytest_quantbench.storage.locks import held

SMALL_FILES = re.compile(r"\w[\w.-]*\.(json|jinja|model)|merges\.txt|vocab\.txt", re.ASCII)
MOST_SMALL_BYTES = 100_000_000  # no tokenizer comes near; what is larger is somebody's data


_fetched: dict[str, list[Path]] = {}  # files that this process transferred: all that it may ever delete


def in_use(model: Model) -> AbstractContextManager[None]:
    """Say meanwhile that this process works with a model's files, so that no other session deletes them."""
    return nullcontext() if model.local else working_with(model.source)


def delete_weights(source: str) -> int:
    """Delete the weight files of a model that this process transferred, and no others, unless another session works
    with them; returns how many bytes.
    """
    freed = 0
    with held(lock(source, "in-use"), f"deleting {source}", waits=False) as free, alone(source):
        for path in _fetched.pop(source, ()) if free else ():
            if path.suffix == ".safetensors" and path.exists() and not is_shared(path):
                freed += path.stat().st_size
                remove(path)
    return freed


def small_files(source: str, commit: str) -> Path | None:
    """The snapshot of a commit whose weights are gone, with its configuration and tokenizer; None if they are, too."""
    snapshot = folder(source) / "snapshots" / commit
    return snapshot if (snapshot / "config.json").is_file() else None


def fetch(model: Model, offline: bool) -> tuple[Path, str | None]:
    """The model's directory and commit, fetched as far as it is not here, and checked.

    Raises OfflineError where it would have to be fetched and may not or cannot be, ModelError where the Hub says no or
    a file is not what the Hub says, DiskError where it has no room. A Hub that cannot be asked is no obstacle for what
    is in the cache: a warning names the commit.
    """
    if model.local or model.source.startswith(("/", ".")):
        return Path(model.source), None
    here = cached(model.source)
    if offline and here is None:
        raise OfflineError(
            f"{model.source} is not in the Hub's cache ({hub_cache()}) and --offline forbids fetching it. Run once "
            f"without --offline where there is a network, or give a local copy with --model DIRECTORY."
        )
    if offline and here is not None:
        return _trusted(here), here.name
    try:
        found = listing(model.source)
    except QuantbenchError as error:
        if here is None:
            raise
        warnings.warn(f"{error} Going on with what is in the cache, commit {here.name}.", stacklevel=2)
        return _trusted(here), here.name
    with alone(model.source):
        return _complete(found), found.commit


def is_here(model: Model) -> bool:
    """Whether nothing has to be fetched: a directory, or a whole snapshot in the Hub's cache."""
    return model.local or cached(model.source) is not None


def cached(source: str) -> Path | None:
    """The whole snapshot that `main` was last seen at, or else the newest one; None if no snapshot is whole."""
    whole = list(filter(_is_whole, (folder(source) / "snapshots").glob("*")))
    with suppress(OSError):
        main = (folder(source) / "refs" / "main").read_text().strip()
        whole = [snapshot for snapshot in whole if snapshot.name == main] or whole
    return max(whole, key=lambda snapshot: snapshot.stat().st_mtime, default=None)


def _is_whole(snapshot: Path) -> bool:
    try:
        return (snapshot / "config.json").is_file() and all(file.is_file() for file in weight_files(snapshot))
    except (ModelError, OSError):
        return False


def _trusted(snapshot: Path) -> Path:
    """A cached snapshot, checked without the Hub."""
    small = [path for path in snapshot.iterdir() if SMALL_FILES.fullmatch(path.name)]
    trusted([*small, *weight_files(snapshot)])
    return snapshot


def _complete(found: Listing) -> Path:
    """The snapshot of this commit, with every file that we want in it. Small files first: they may say no."""
    snapshot = folder(found.source) / "snapshots" / found.commit
    _refuse_unusable(found)
    bring(found, snapshot, [file for file in found.files.values() if is_small(file)], _note(found))
    read_config(snapshot)
    weights = indexed_weights(found, snapshot)
    check_room(found, snapshot, weights)
    bring(found, snapshot, weights, _note(found))
    read_weights(snapshot)
    point(found)
    return snapshot


def _note(found: Listing) -> Callable[[Path], object]:
    return lambda path: _fetched.setdefault(found.source, []).append(path)


def _refuse_unusable(found: Listing) -> None:
    if "config.json" not in found.files:
        raise ModelError(f"{found.source} has no config.json on the Hub: it is not a model that can be run.")
    if INDEX not in found.files and not chosen_names(found.files):
        other = sorted(name for name in found.files if is_pickle(name))
        raise ModelError(f"{found.source} has no model*.safetensors on the Hub.{instead(other)}")


def is_small(file: HubFile) -> bool:
    """Whether a file is configuration or belongs to a tokenizer."""
    return SMALL_FILES.fullmatch(file.name) is not None and (file.size or 0) <= MOST_SMALL_BYTES
