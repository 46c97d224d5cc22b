"""`quantbench prune`: what our cache holds, and its deletion. The Hub's cache is never touched here."""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from pytest_quantbench.errors import DiskError, unknown
from pytest_quantbench.storage import cache as layout
from pytest_quantbench.storage.files import GB
from pytest_quantbench.storage.locks import held

MAY_BE_DAMAGED = (
    layout.ARTIFACTS,
    layout.SAMPLES,
    layout.WRITTEN_TEXTS,
    layout.MANIFESTS,
    layout.DELETED_MODELS,
)
# By kind: what it finds in a cache, and what the deletion costs. Nothing else in the folder is ever deleted.
KINDS: Mapping[str, tuple[Callable[[Path], Iterable[Path]], str]] = {
    "artifacts": (layout.ARTIFACTS.all_in, "compressed again when needed"),
    "unfinished": (layout.UNFINISHED.all_in, "an interrupted compression begins again"),
    "samples": (layout.SAMPLES.all_in, "measured again when needed"),
    "texts": (layout.WRITTEN_TEXTS.all_in, "sampled from their models again when needed"),
    "damaged": (
        lambda cache: chain.from_iterable(place.set_aside_in(cache) for place in MAY_BE_DAMAGED),
        "nothing: they are not used",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file or folder of the cache, with its size in bytes."""

    kind: str
    path: Path
    size: int


def entries(cache: Path) -> list[Entry]:
    """All that can be deleted, by kind, the largest first."""
    found = [
        Entry(kind=kind, path=path, size=_size(path))
        for kind, (found_in, _) in KINDS.items()
        for path in found_in(cache)
        if not path.is_symlink()
    ]
    return sorted(found, key=lambda entry: (list(KINDS).index(entry.kind), -entry.size))


def listed(cache: Path) -> Iterator[str]:
    """The lines that show them: every compressed model, the sums of the rest."""
    found = entries(cache)
    yield f"{sum(entry.size for entry in found) / GB:.3f} GB at {cache}"
    for kind, (_, cost) in KINDS.items():
        own = [entry for entry in found if entry.kind == kind]
        yield f"{kind}: {len(own)}, {sum(entry.size for entry in own) / GB:.3f} GB ({cost})"
        for entry in own if kind == "artifacts" else ():
            yield f"  {entry.size / GB:8.3f} GB  {_title(entry.path)}"
    yield f"To delete, name what: quantbench prune {' | '.join([*KINDS, 'all'])}"


def prune(cache: Path, kinds: Sequence[str]) -> int:
    """Delete all of these kinds; returns how many bytes were freed. Raises UnknownNameError for a kind that does not
    exist, DiskError where a session is at work or something cannot be deleted.
    """
    for kind in kinds:
        if kind not in (*KINDS, "all"):
            raise unknown("kind", kind, [*KINDS, "all"])
    with held(layout.in_use(cache), f"deleting from {cache}", waits=False) as free:
        if not free:
            raise DiskError(f"A session is at work in {cache}. Run this again when it is done.")
        chosen = [entry for entry in entries(cache) if entry.kind in kinds or "all" in kinds]
        for entry in chosen:
            _delete(entry.path)
    return sum(entry.size for entry in chosen)


def _delete(path: Path) -> None:
    remove: Callable[[Path], None] = shutil.rmtree if path.is_dir() else Path.unlink
    try:
        remove(path)
    except OSError as error:
        raise DiskError(f"{path} cannot be deleted: {error.strerror}.") from error


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    size = 0
    for file in files:
        with suppress(FileNotFoundError):  # a session is at work
            size += 0 if file.is_dir() else file.lstat().st_size
    return size


def _title(artifact: Path) -> str:
    """Of which model and recipe a compressed model is, as far as its manifest can be read."""
    try:
        manifest = json.loads((artifact / layout.MANIFEST_FILE).read_bytes())
        return f"{manifest['recipe']} of {manifest['source']}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{artifact.name}, whose manifest cannot be read"
