"""At the end of a session: badges of what it judged, in a folder of their own beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_quantbench.record.schema import Record

FOLDER = "badges"  # in the results folder


def pytest_quantbench_report(records: Sequence[Record], directory: Path) -> list[str]:
    """Write a badge of the session and one of each model, each as a picture and for shields.io."""
    from pytest_quantbench.errors import DiskError
    from pytest_quantbench.report import badge
    from pytest_quantbench.storage.files import write_atomically

    try:
        for name, content in badge.files(records).items():
            write_atomically(directory / FOLDER / name, content)
    except DiskError as error:  # of the last files of a session, whose records are written
        return [f"{type(error).__name__}: {error}"]
    return [f"badges: {directory / FOLDER}/*.svg, for shields.io *.json"]
