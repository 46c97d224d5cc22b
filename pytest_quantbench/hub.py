"""Fetch a model or a corpus. `huggingface_hub` and `datasets` do the transfer, and are imported only for it."""

import hashlib
import importlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_quantbench.catalog import CORPORA, Corpus, Model
from pytest_quantbench.errors import CorpusError, ModelError, OfflineError

MODEL_FILES = ("model*.safetensors", "*.json", "tokenizer*", "*.model", "merges.txt", "*.jinja")  # no pickle, no code


def hub_cache() -> Path:
    """The Hub's cache directory, by its own variables."""
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")


def is_here(model: Model) -> bool:
    """Whether nothing has to be fetched: a directory, or a snapshot in the Hub's cache with config and weights."""
    if model.local:
        return True
    snapshots = hub_cache() / f"models--{model.source.replace('/', '--')}" / "snapshots"
    return any(any(config.parent.glob("*.safetensors")) for config in snapshots.glob("*/config.json"))


def fetch(model: Model, offline: bool) -> tuple[Path, str | None]:
    """The model's directory and revision, fetched if it is not here.

    Raises OfflineError where it would have to be fetched and may not or cannot be, ModelError where the Hub says no.
    """
    if model.local or model.source.startswith(("/", ".")):
        return Path(model.source), None
    if offline and not is_here(model):
        raise OfflineError(
            f"{model.source} is not in the Hub's cache ({hub_cache()}) and --offline forbids fetching it. Run once "
            f"without --offline where there is a network, or give a local copy with --model DIRECTORY."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    page = f"huggingface.co/{model.source}"
    try:
        path = Path(snapshot_download(model.source, allow_patterns=list(MODEL_FILES), local_files_only=offline))
    except GatedRepoError as error:
        raise ModelError(f"{model.source} is gated: accept its terms on {page} and set HF_TOKEN.") from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{model.source} is not on the Hub, or private: check the id, or set HF_TOKEN.") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise OfflineError(
            f"{model.source} could not be fetched ({_first_line(error)}). Check the network, or give a local copy with "
            f"--model DIRECTORY."
        ) from error
    return path, path.name


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


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
    try:
        content = file.read_text(encoding="utf-8")
        return content if file.suffix != ".jsonl" else "\n\n".join(_line_text(file, *at) for at in _lines(content))
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"The text {file} cannot be read as UTF-8: {error}.") from error


def _lines(content: str) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(content.splitlines(), 1) if line.strip())


def _line_text(file: Path, number: int, line: str) -> str:
    try:
        found = json.loads(line)["text"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise CorpusError(f"Line {number} of {file} is not a JSON object with a field `text`.") from error
    if not isinstance(found, str):
        raise CorpusError(f"Line {number} of {file}: `text` is not a string.")
    return found


def _dataset_text(corpus: Corpus, offline: bool, option: str) -> str:
    way_out = f"Give the text as a file with {option} FILE, or fetch {corpus.dataset} once where there is a network."
    if offline and not (hub_cache() / f"datasets--{corpus.dataset.replace('/', '--')}").is_dir():
        raise OfflineError(f"The corpus {corpus.name} is not in the Hub's cache and --offline forbids it. {way_out}")
    import datasets

    try:
        rows = datasets.load_dataset(
            corpus.dataset, corpus.config, split=corpus.split, data_files=corpus.files, revision=corpus.revision
        )
    except (OSError, ValueError) as error:
        raise OfflineError(f"The corpus {corpus.name} cannot be fetched ({_first_line(error)}). {way_out}") from error
    return corpus.joiner.join(rows[corpus.column][: corpus.rows])
