"""Candidates: where their files are on this disk, fetched from the Hub as far as they are not here.

On the Hub a candidate is one GGUF file with all its parts, or a directory of safetensors with its configuration and
tokenizer, at one commit and with its model card. Nothing else is fetched, and nothing of it is ever deleted.
"""

import os
import re
import warnings
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_quantbench.catalog.models import PATH_STARTS
from pytest_quantbench.checkpoints.shards import GGUF_BESIDE, GGUF_PART, INDEX, chosen_names, read_weights, weight_files
from pytest_quantbench.errors import ModelError, OfflineError, QuantbenchError
from pytest_quantbench.fetch.download import SMALL_FILES, is_small
from pytest_quantbench.fetch.hub_api import MAIN, Listing, hub_cache, listing
from pytest_quantbench.fetch.transfer import (
    alone,
    bring,
    check_room,
    folder,
    indexed_weights,
    point,
    trusted,
    working_with,
)

CARD = "README.md"  # which may name the original
MODEL_FILES = (".gguf", ".safetensors")
COMMIT = re.compile(r"[0-9a-f]{40}")
PLAIN_NAME = re.compile(r"(?:\w[\w.+-]*/)*\w[\w.+-]*", re.ASCII)  # of a file on the Hub: nothing hidden, no way up
ON_THE_HUB = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>\w[\w./+-]*))?(?::(?P<file>.+))?", re.ASCII)
MOST_LISTED = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """`owner/name@revision:file`; the file may be a pattern with `*`, and None means that the repository tells."""

    repository: str
    revision: str = MAIN
    file: str | None = None

    def __str__(self) -> str:
        """As it is typed."""
        revision = "" if self.revision == MAIN else f"@{self.revision}"
        return f"{self.repository}{revision}{f':{self.file}' if self.file else ''}"


_found: dict[tuple[str, Path], Path] = {}  # by source and the Hub's cache: what this process has found, and checked


def find(source: str, offline: bool) -> Path:
    """The file or directory of a candidate; of a GGUF file in parts the first one.

    Raises ModelError for a path where nothing is, for what the Hub does not have or refuses, for a repository where
    there are several GGUF files to choose from, and for a file that is not what the Hub says; OfflineError where it
    would have to be fetched and may not or cannot be; DiskError where it has no room. A Hub that cannot be asked is no
    obstacle for what is in the cache: a warning names the commit.
    """
    if (path := local_path(source)) is not None:
        return path
    key = source, hub_cache()
    if key not in _found or not _found[key].exists():
        _found[key] = _from_hub(hub_source(source), offline)
    return _found[key]


def local_path(source: str) -> Path | None:
    """What a source names on this disk, made absolute; None for one of the Hub. Raises ModelError for a path where
    there is nothing.
    """
    path = Path(os.path.abspath(os.path.expanduser(source)))
    if path.exists():
        return path
    if source.startswith(PATH_STARTS) or (source.endswith(MODEL_FILES) and not {"@", ":"} & set(source)):
        raise ModelError(f"{source}: there is no such file or directory.")
    return None


def hub_source(source: str) -> HubSource:
    """The parts of a source that is no path. Raises ModelError for what can be neither."""
    found = ON_THE_HUB.fullmatch(source)
    if found is None or ".." in source:
        raise ModelError(
            f"{source!r} is neither a file or directory that exists, nor one of the Hub like owner/name, "
            f"owner/name@revision or owner/name:file.gguf."
        )
    return HubSource(repository=found["repository"], revision=found["revision"] or MAIN, file=found["file"])


def plain_name(source: str, path: Path) -> str:
    """What a candidate is called where nobody says it: after its file, directory or repository."""
    if path.is_dir():
        return path.name if local_path(source) else hub_source(source).repository.partition("/")[2]
    return _whole(path.name).removesuffix(path.suffix)


def in_use(source: str) -> AbstractContextManager[None]:
    """Say meanwhile that this process works with a candidate's files, so that no session deletes them."""
    return nullcontext() if local_path(source) else working_with(hub_source(source).repository)


def _from_hub(asked: HubSource, offline: bool) -> Path:
    here = next(_cached(asked), None)
    if offline and here is None:
        raise OfflineError(
            f"{asked} is not in the Hub's cache ({hub_cache()}) and --offline forbids fetching it. Run once without "
            f"--offline where there is a network, or give a local copy."
        )
    if offline and here is not None:
        return _checked(here)
    try:
        found = listing(asked.repository, asked.revision)
    except QuantbenchError as error:
        if here is None:
            raise
        warnings.warn(f"{error} Going on with {here} of the cache.", stacklevel=2)
        return _checked(here)
    with alone(asked.repository):
        return _fetched(found, asked)


def _fetched(found: Listing, asked: HubSource) -> Path:
    """All that this candidate is made of, in the snapshot of its commit."""
    snapshot = folder(found.source) / "snapshots" / found.commit
    if ggufs := gguf_files(found.files, asked):
        files = [found.files[name] for name in (*ggufs, CARD) if name in found.files]
    else:
        bring(found, snapshot, [file for file in found.files.values() if is_small(file) or file.name == CARD])
        files = indexed_weights(found, snapshot)
    check_room(found, snapshot, files)
    bring(found, snapshot, files)
    if not ggufs:
        read_weights(snapshot)
    point(found)
    return snapshot / ggufs[0] if ggufs else snapshot


def gguf_files(names: Collection[str], asked: HubSource) -> list[str]:
    """The GGUF file that is asked for, in all its parts; nothing where these names are a directory of safetensors.

    Raises ModelError where there is none, there are several, or a part lacks.
    """
    every = sorted(name for name in names if name.endswith(".gguf") and PLAIN_NAME.fullmatch(name))
    if asked.file is None and "config.json" in names and (INDEX in names or chosen_names(names)):
        return []
    chosen = {_whole(name) for name in every if _is_asked_for(name, asked.file)}
    if len(chosen) != 1:
        raise _not_one(asked, sorted(chosen), every)
    parts = [name for name in every if _whole(name) in chosen]
    count = int(found[3]) if (found := GGUF_PART.fullmatch(parts[0])) else 1
    if len(parts) != count:
        raise ModelError(f"{asked.repository} has {len(parts)} of the {count} parts of {chosen.pop()}.")
    return parts


def _whole(name: str) -> str:
    """The name of a GGUF file without the number of its part."""
    found = GGUF_PART.fullmatch(name)
    return f"{found[1]}.gguf" if found else name


def _is_asked_for(name: str, pattern: str | None) -> bool:
    """Whether a file is what a pattern means; where none is given, whether it is a model."""
    if pattern is None:
        return not GGUF_BESIDE.search(name)
    spellings = (each for full in (name, _whole(name)) for each in (full, full.rpartition("/")[2]))
    return any(fnmatchcase(each, pattern) for each in spellings)


def _not_one(asked: HubSource, chosen: list[str], every: list[str]) -> ModelError:
    """Why none of these is the candidate."""
    wholes = chosen or sorted({_whole(name) for name in every})
    more = f" and {len(wholes) - MOST_LISTED} more" if len(wholes) > MOST_LISTED else ""
    listed = f"{', '.join(wholes[:MOST_LISTED])}{more}"
    name_one = f"Name one as {asked.repository}:FILE. They are {listed}."
    if chosen:
        return ModelError(f"{asked} is {len(chosen)} GGUF files. {name_one}")
    if every:
        return ModelError(f"{asked.repository} has no GGUF file {asked.file}. {name_one}")
    return ModelError(f"{asked} has no GGUF file, and no config.json with safetensors beside it: no candidate.")


def _cached(asked: HubSource) -> Iterator[Path]:
    """What is whole in the Hub's cache: of the commit that the revision was last seen at, for `main` also of others."""
    repository = folder(asked.repository)
    reference = repository / "refs" / asked.revision
    commit = asked.revision if COMMIT.fullmatch(asked.revision) else None
    if commit is None and reference.is_file():
        commit = reference.read_text(encoding="ascii", errors="replace").strip()
    snapshots = sorted((repository / "snapshots").glob("*"), key=lambda each: -each.stat().st_mtime)
    if commit is not None or asked.revision != MAIN:
        snapshots = [each for each in snapshots if each.name == commit]
    for snapshot in snapshots:
        names = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()}
        try:
            ggufs = gguf_files(names, asked)
            _ = weight_files(snapshot) if not ggufs else None  # the whole index is here
        except ModelError:
            continue
        yield snapshot / ggufs[0] if ggufs else snapshot


def _checked(path: Path) -> Path:
    """A candidate of the cache, all of whose files are what their names say."""
    if path.is_dir():
        small = [file for file in path.iterdir() if SMALL_FILES.fullmatch(file.name) or file.name == CARD]
        trusted([*small, *weight_files(path)])
    else:
        trusted(file for file in path.parent.glob("*.gguf") if _whole(file.name) == _whole(path.name))
    return path
