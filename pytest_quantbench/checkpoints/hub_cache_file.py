"""A file of the Hub's cache, which is a link in a snapshot to a blob that is named by its checksum."""

import os
import re
from pathlib import Path

from pytest_quantbench.storage.files import file_sha256, git_sha1

_DIGESTS = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def named_digest(path: Path) -> str | None:
    """The checksum that a file of the Hub's cache is named by: SHA-256 of 64 digits, or git's SHA-1 of 40."""
    name = path.readlink().name if path.is_symlink() else ""  # not resolved: a blob may be a link itself
    return name if _DIGESTS.fullmatch(name) else None


def is_of_hub(path: Path) -> bool:
    """Whether a link has the form of one in the Hub's cache: from a snapshot, or a folder in it, to a blob beside."""
    folder = path.parent.resolve()
    snapshots = next((parent for parent in folder.parents if parent.name == "snapshots"), None)
    if snapshots is None or named_digest(path) is None:
        return False
    target = Path(os.path.normpath(folder / path.readlink()))
    return target.parent == snapshots.parent / "blobs"


def mismatch(path: Path, size: int | None = None, digest: str | None = None) -> str | None:
    """What differs from the size in bytes and the checksum that the Hub lists, or nothing.

    Where it lists no checksum, or was not asked, the one counts that a file of its cache is named by.
    """
    wanted = digest or named_digest(path)
    try:
        found_size = path.stat().st_size
        if size is not None and found_size != size:
            return f"it has {found_size} bytes, the Hub says {size}"
        hashed = file_sha256 if wanted and len(wanted) == 64 else git_sha1
        found = hashed(path) if wanted else None
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None if found == wanted else f"its checksum is {found}, the Hub says {wanted}"


def remove(path: Path) -> None:
    """Delete a file of a snapshot and its blob; nothing outside the model's own folder in the cache."""
    blob = path.parent / path.readlink() if path.is_symlink() else path
    path.unlink(missing_ok=True)
    if blob.parent.resolve() in {(folder / "blobs").resolve() for folder in path.parents[2:4]}:  # or in a folder there
        blob.unlink(missing_ok=True)


def is_shared(path: Path) -> bool:
    """Whether another snapshot, or a folder in one, links to the same blob."""
    others = (other for other in path.parents[1].rglob("*") if other != path and other.is_symlink())
    return path.is_symlink() and any(other.readlink().name == path.readlink().name for other in others)
