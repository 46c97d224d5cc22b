"""Files of one commit, from the Hub into its own cache: each compared with the Hub's checksum, one session at a time.

huggingface_hub does the transfer. What was not compared with its checksum in this process is not trusted, whoever
fetched it: a run that is killed between transfer and check leaves nothing behind that a later one would take on trust.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from pytest_quantbench.checkpoints.hub_cache_file import mismatch, remove
from pytest_quantbench.checkpoints.shards import INDEX, chosen_names, read_index
from pytest_quantbench.errors import DiskError, ModelError
from pytest_quantbench.fetch.hub_api import HubFile, Listing, endpoint, hub_cache, patiently
from pytest_quantbench.progress import track
from pytest_quantbench.storage.files import GB, free_bytes
from pytest_quantbench.storage.locks import held, shared

AT_ONCE = 4


def folder(source: str) -> Path:
    """Of a repository in the Hub's cache."""
    return hub_cache() / f"models--{source.replace('/', '--')}"


def lock(source: str, kind: str) -> Path:
    """The file that sessions hold while they do something of a kind with a repository."""
    own = folder(source)
    return own.parent / ".locks" / f"{own.name}.{kind}"


def alone(source: str) -> AbstractContextManager[bool]:
    """Wait until no other session of ours is at work on a repository's folder in the Hub's cache."""
    return held(lock(source, "quantbench"), f"fetching {source}")


def working_with(source: str) -> AbstractContextManager[None]:
    """Say meanwhile that this process works with a repository's files, so that no other session deletes them."""
    return shared(lock(source, "in-use"), f"working with {source}")


def trusted(paths: Iterable[Path]) -> None:
    """Check files of the cache without the Hub: there a file's name is its checksum. Raises ModelError."""
    for path in paths:
        if problem := mismatch(path):
            raise _damaged(path, problem)


def indexed_weights(found: Listing, snapshot: Path) -> list[HubFile]:
    """The safetensors files of a repository, by the index, which is in the snapshot where there is one. Raises
    ModelError for one that the Hub lacks.
    """
    indexed = INDEX in found.files
    names = sorted(set(read_index(snapshot / INDEX).values())) if indexed else chosen_names(found.files)
    for name in names:
        if name not in found.files:
            raise ModelError(
                f"{INDEX} of {found.source} names {name}, which is not on the Hub. Give a local copy instead."
            )
    return [found.files[name] for name in names]


def check_room(found: Listing, snapshot: Path, files: Sequence[HubFile]) -> None:
    """Raise DiskError where the cache has no room for these files."""
    needed = sum(file.size or 0 for file in files if not (snapshot / file.name).exists())
    if needed > (free := free_bytes(hub_cache())):
        raise DiskError(
            f"{found.source} takes {needed / GB:.1f} GB more at {hub_cache()} and {free / GB:.1f} GB are free. Set "
            f"HF_HOME to a larger disk, or leave it out."
        )


def bring(
    found: Listing, snapshot: Path, files: Sequence[HubFile], transferred: Callable[[Path], object] = lambda _: None
) -> None:
    """Transfer and check files, some at once; `transferred` is told of each that was not here. What came whole before
    another one failed stays for the next run.
    """
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        jobs = [pool.submit(_bring_file, found, snapshot, file) for file in files]
        try:
            for job in track(as_completed(jobs), what=f"fetching {found.source}", unit="file", total=len(jobs)):
                if (path := job.result()) is not None:
                    transferred(path)
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
        f"network or mirror (HF_ENDPOINT), or give a local copy."
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


def point(found: Listing) -> None:
    """Let the cache's reference of this revision be the commit, now that all of it is here: `--offline` finds it by
    that.
    """
    reference = folder(found.source) / "refs" / found.revision
    if found.revision == found.commit:
        return
    with suppress(OSError):  # a cache that cannot be written still can be read
        reference.parent.mkdir(parents=True, exist_ok=True)
        temporary = reference.with_name(f"{reference.name}.{found.commit}.tmp")
        temporary.write_text(found.commit)
        temporary.replace(reference)
