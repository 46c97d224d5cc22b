"""Fetch a model from the Hub: its commit, the files that we chose, each checked against the Hub's checksum.

huggingface_hub does the transfer, into its own cache. We choose the files (safetensors, configuration, tokenizer;
never a pickle, never code), pin the commit before the first byte, and trust nothing that was not compared with its
checksum in this process, whoever fetched it: a run that is killed between transfer and check leaves nothing behind
that a later one would take on trust.
"""

import re
import warnings
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from pytest_quantbench.catalog.models import Model
from pytest_quantbench.checkpoints.config import read_config
from pytest_quantbench.checkpoints.hub_cache_file import is_shared, mismatch, remove
from pytest_quantbench.checkpoints.shards import (
    INDEX,
    chosen_names,
    instead,
    is_pickle,
    read_index,
    read_weights,
    weight_files,
)
from pytest_quantbench.errors import DiskError, ModelError, OfflineError, QuantbenchError
from pytest_quantbench.fetch.hub_api import HubFile, Listing, endpoint, hub_cache, listing, patiently
from pytest_quantbench.progress import track
from pytest_quantbench.storage.files import GB, free_bytes
from pytest_quantbench.storage.locks import held, shared

SMALL_FILES = re.compile(r"\w[\w.-]*\.(json|jinja|model)|merges\.txt|vocab\.txt", re.ASCII)
MOST_SMALL_BYTES = 100_000_000  # no tokenizer comes near; what is larger is somebody's data
AT_ONCE = 4


_fetched: dict[str, list[Path]] = {}  # files that this process transferred: all that it may ever delete


def in_use(model: Model) -> AbstractContextManager[None]:
    """Say meanwhile that this process works with a model's files, so that no other session deletes them."""
    return nullcontext() if model.local else shared(_lock(model.source, "in-use"), f"working with {model.source}")


def delete_weights(source: str) -> int:
    """Delete the weight files of a model that this process transferred, and no others, unless another session works
    with them; returns how many bytes.
    """
    freed = 0
    with held(_lock(source, "in-use"), f"deleting {source}", waits=False) as free, _alone(source):
        for path in _fetched.pop(source, ()) if free else ():
            if path.suffix == ".safetensors" and path.exists() and not is_shared(path):
                freed += path.stat().st_size
                remove(path)
    return freed


def small_files(source: str, commit: str) -> Path | None:
    """The snapshot of a commit whose weights are gone, with its configuration and tokenizer; None if they are, too."""
    snapshot = _folder(source) / "snapshots" / commit
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
    with _alone(model.source):
        return _complete(found), found.commit


def is_here(model: Model) -> bool:
    """Whether nothing has to be fetched: a directory, or a whole snapshot in the Hub's cache."""
    return model.local or cached(model.source) is not None


def cached(source: str) -> Path | None:
    """The whole snapshot that `main` was last seen at, or else the newest one; None if no snapshot is whole."""
    whole = list(filter(_is_whole, (_folder(source) / "snapshots").glob("*")))
    with suppress(OSError):
        main = (_folder(source) / "refs" / "main").read_text().strip()
        whole = [snapshot for snapshot in whole if snapshot.name == main] or whole
    return max(whole, key=lambda snapshot: snapshot.stat().st_mtime, default=None)


def _is_whole(snapshot: Path) -> bool:
    try:
        return (snapshot / "config.json").is_file() and all(file.is_file() for file in weight_files(snapshot))
    except (ModelError, OSError):
        return False


def _folder(source: str) -> Path:
    return hub_cache() / f"models--{source.replace('/', '--')}"


def _alone(source: str) -> AbstractContextManager[bool]:
    """Wait until no other session of ours is at work on a model's folder in the Hub's cache."""
    return held(_lock(source, "quantbench"), f"fetching {source}")


def _lock(source: str, kind: str) -> Path:
    folder = _folder(source)
    return folder.parent / ".locks" / f"{folder.name}.{kind}"


def _trusted(snapshot: Path) -> Path:
    """A cached snapshot, checked without the Hub: in its cache a file's name is its checksum."""
    small = [path for path in snapshot.iterdir() if SMALL_FILES.fullmatch(path.name)]
    for path in [*small, *weight_files(snapshot)]:
        if problem := mismatch(path):
            raise _damaged(path, problem)
    return snapshot


def _complete(found: Listing) -> Path:
    """The snapshot of this commit, with every file that we want in it. Small files first: they may say no."""
    snapshot = _folder(found.source) / "snapshots" / found.commit
    _refuse_unusable(found)
    _bring(found, snapshot, [file for name, file in found.files.items() if _is_small(name, file)])
    read_config(snapshot)
    indexed = INDEX in found.files
    names = sorted(set(read_index(snapshot / INDEX).values())) if indexed else chosen_names(found.files)
    weights = [_listed(found, name) for name in names]
    _check_room(found, snapshot, weights)
    _bring(found, snapshot, weights)
    read_weights(snapshot)
    _point_main(found)
    return snapshot


def _refuse_unusable(found: Listing) -> None:
    if "config.json" not in found.files:
        raise ModelError(f"{found.source} has no config.json on the Hub: it is not a model that can be run.")
    if INDEX not in found.files and not chosen_names(found.files):
        other = sorted(name for name in found.files if is_pickle(name))
        raise ModelError(f"{found.source} has no model*.safetensors on the Hub.{instead(other)}")


def _is_small(name: str, file: HubFile) -> bool:
    return SMALL_FILES.fullmatch(name) is not None and (file.size or 0) <= MOST_SMALL_BYTES


def _listed(found: Listing, name: str) -> HubFile:
    if name not in found.files:
        raise ModelError(f"{INDEX} of {found.source} names {name}, which is not on the Hub. Give a local copy instead.")
    return found.files[name]


def _check_room(found: Listing, snapshot: Path, files: list[HubFile]) -> None:
    needed = sum(file.size or 0 for file in files if not (snapshot / file.name).exists())
    if needed > (free := free_bytes(hub_cache())):
        raise DiskError(
            f"{found.source} takes {needed / GB:.1f} GB more at {hub_cache()} and {free / GB:.1f} GB are free. Set "
            f"HF_HOME to a larger disk, or leave this model out with -k."
        )


def _bring(found: Listing, snapshot: Path, files: list[HubFile]) -> None:
    """Transfer and check files, some at once. What came whole before another one failed stays for the next run."""
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        jobs = [pool.submit(_bring_file, found, snapshot, file) for file in files]
        try:
            for job in track(as_completed(jobs), what=f"fetching {found.source}", unit="file", total=len(jobs)):
                if (path := job.result()) is not None:
                    _fetched.setdefault(found.source, []).append(path)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _bring_file(found: Listing, snapshot: Path, file: HubFile) -> Path | None:
    """One file, in the snapshot and with the right content, or a ModelError; what we transferred wrong is removed.
    Returned if we transferred it.
    """
    path = snapshot / file.name
    problem: str | None = None
    for _ in range(2):
        ours = not path.exists() and not (snapshot.parent.parent / "blobs" / (file.digest or "-")).exists()
        _transfer(found, file)
        if not path.exists():
            raise ModelError(f"{file.name} of {found.source} came as of another commit than {found.commit}. Run again.")
        problem = mismatch(path, file.size, file.digest)
        if problem is None:
            return path if ours else None
        if not ours:
            raise _damaged(path, problem)
        remove(path)
    raise ModelError(
        f"{file.name} of {found.source} arrived wrong twice: {problem}. Something on the way damages it: try another "
        f"network or mirror (HF_ENDPOINT), or give a local copy with --model DIRECTORY."
    )


def _transfer(found: Listing, file: HubFile) -> None:
    from huggingface_hub import hf_hub_download

    patiently(
        found.source,
        f"{file.name} of {found.source}",
        lambda: hf_hub_download(
            found.source, file.name, revision=found.commit, cache_dir=hub_cache(), endpoint=endpoint()
        ),
    )


def _damaged(path: Path, problem: str) -> ModelError:
    return ModelError(
        f"{path} is damaged: {problem}. This run did not fetch it, so it is left alone: delete {path.resolve()} and "
        f"run again."
    )


def _point_main(found: Listing) -> None:
    """Let the cache's `main` be this commit, now that all of it is here: `--offline` finds it by that."""
    reference = _folder(found.source) / "refs" / "main"
    with suppress(OSError):  # a cache that cannot be written still can be read
        reference.parent.mkdir(parents=True, exist_ok=True)
        temporary = reference.with_name(f"main.{found.commit}.tmp")
        temporary.write_text(found.commit)
        temporary.replace(reference)
