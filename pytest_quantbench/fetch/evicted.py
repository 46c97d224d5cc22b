"""Models whose BF16 weights a disk plan deleted, and what is still known of them.

Their commit and the hash of their weights are noted; whoever deletes them keeps their manifest. With these a later
session finds the compressed models and the samples of an earlier one, and fetches the weights again only for what it
lacks.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.catalog.models import Model
from pytest_quantbench.checkpoints.checkpoint import Checkpoint
from pytest_quantbench.errors import ModelError, QuantbenchError
from pytest_quantbench.fetch.download import delete_weights, fetch, is_here, small_files
from pytest_quantbench.fetch.hub_api import listing
from pytest_quantbench.storage.cache import DELETED_MODELS
from pytest_quantbench.storage.files import write_atomically
from pytest_quantbench.storage.sealed_json import read_sealed, sealed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A model of the Hub as it was measured."""

    source: str
    commit: str
    weights_sha256: str


def delete(cache: Path, source: str, commit: str, checkpoint: Checkpoint) -> int:
    """Delete the weights of a model of the Hub, as far as this process fetched them, when what it takes to know them
    again is noted. Returns how many bytes were freed. Raises DiskError where the note cannot be written.
    """
    note = Note(source=source, commit=commit, weights_sha256=checkpoint.sha256)
    write_atomically(_path(cache, source), sealed(note))
    return delete_weights(source)


def find(cache: Path, model: Model, offline: bool) -> Checkpoint | None:
    """The checkpoint of a model whose weights were deleted, if the Hub has no newer commit; else None."""
    note = None if is_here(model) else read_sealed(_path(cache, model.source), Note)
    if note is None or (directory := small_files(model.source, note.commit)) is None:
        return None
    if not offline and _newest(note) != note.commit:
        return None

    def bring() -> None:
        if fetch(model, offline)[0] != directory:
            raise ModelError(f"{model.source} has changed on the Hub during this session. Run again.")

    return Checkpoint(directory, note.commit, sha256=note.weights_sha256, bring=bring)


def _newest(note: Note) -> str:
    try:
        return listing(note.source).commit
    except QuantbenchError as error:  # as for a model that is in the Hub's cache
        log.warning("%s Going on with what is known of commit %s.", error, note.commit)
        return note.commit


def _path(cache: Path, source: str) -> Path:
    return DELETED_MODELS.of(cache, source.replace("/", "--"))
