"""Where a candidate's files are on this disk: a path as it is, or what is fetched from the Hub."""

import os
from pathlib import Path

from pytest_quantbench.catalog.models import PATH_STARTS
from pytest_quantbench.errors import ModelError


def find(source: str, offline: bool) -> Path:
    """The file or directory of a candidate."""
    if (path := local_path(source)) is not None:
        return path
    raise ModelError(f"{source}: not yet.")


def local_path(source: str) -> Path | None:
    """What a source names on this disk, made absolute; None for one of the Hub."""
    path = os.path.abspath(os.path.expanduser(source))
    return Path(path) if os.path.exists(path) or source.startswith(PATH_STARTS) else None


def plain_name(source: str, path: Path) -> str:
    """What a candidate is called where nobody says it: after its file, directory or repository."""
    return path.name if path.is_dir() else path.stem
