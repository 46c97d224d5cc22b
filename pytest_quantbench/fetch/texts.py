"""Texts: read from a file, made, or fetched. `datasets` is imported only to fetch one."""

import hashlib
import importlib
import os
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.catalog.corpora import CORPORA, Corpus
from pytest_quantbench.errors import CorpusError, OfflineError, first_line
from pytest_quantbench.fetch.hub_api import hub_cache
from pytest_quantbench.storage.text_files import json_lines, parsed, plain_line_ends, read_utf8


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A corpus in memory, with the hash of its content, and the revision of the dataset that it came from."""

    name: str
    content: str
    revision: str | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the UTF-8 bytes."""
        return hashlib.sha256(self.content.encode()).hexdigest()


def read_text(source: str | Path, offline: bool, option: str = "--corpus") -> Text:
    """The corpus of that name, or a file; `option` is what a user would give another file with.

    Raises CorpusError for a file that is not UTF-8 text, OfflineError where the text would have to be fetched.
    """
    if isinstance(source, Path):
        return Text(name=source.name, content=_file_text(source))
    corpus = CORPORA[source]
    if corpus.path is not None:
        return Text(name=corpus.name, content=_file_text(corpus.path))
    if corpus.maker:
        module, _, function = corpus.maker.partition(":")
        return Text(name=corpus.name, content=getattr(importlib.import_module(module), function)())
    return Text(name=corpus.name, content=_dataset_text(corpus, offline, option), revision=corpus.revision)


def _file_text(file: Path) -> str:
    """The whole file; of a .jsonl file the `text` of every line, an empty line between them."""
    content = read_utf8(file, f"The text {file}")
    if file.suffix.lower() == ".jsonl":
        content = "\n\n".join(_line_text(file, number, line) for number, line in json_lines(content))
    if not content.strip():
        raise CorpusError(f"The text {file} is empty.")
    return content


def _line_text(file: Path, number: int, line: str) -> str:
    try:
        found = parsed(line)["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"Line {number} of {file} is not a JSON object with a field `text`.") from error
    if not isinstance(found, str):
        raise CorpusError(f"Line {number} of {file}: `text` is not a string.")
    return plain_line_ends(found)


# What could not be fetched in this process, and why: a network that is not there is waited for once, not for each cell.
_unreached: dict[tuple[str, str | None], str] = {}


def _dataset_text(corpus: Corpus, offline: bool, option: str) -> str:
    way_out = f"Give the text as a file with {option} FILE, or fetch {corpus.dataset} once where there is a network."
    if offline and not (hub_cache() / f"datasets--{corpus.dataset.replace('/', '--')}").is_dir():
        raise OfflineError(f"The corpus {corpus.name} is not in the Hub's cache and --offline forbids it. {way_out}")
    import datasets

    asked = corpus.name, os.environ.get("HF_ENDPOINT")
    if asked in _unreached:
        raise OfflineError(f"The corpus {corpus.name} cannot be fetched ({_unreached[asked]}). {way_out}")
    try:
        rows = datasets.load_dataset(
            corpus.dataset, corpus.config, split=corpus.split, data_files=corpus.files, revision=corpus.revision
        )
    except (OSError, ValueError) as error:
        _unreached[asked] = first_line(error)
        raise OfflineError(f"The corpus {corpus.name} cannot be fetched ({first_line(error)}). {way_out}") from error
    return corpus.joiner.join(rows[corpus.column][: corpus.rows])
