"""What the Hub says of a model: its commit, its files with their checksums, whether we may have it, or why not."""

import errno
import importlib
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pytest_quantbench.errors import DiskError, ModelError, OfflineError, QuantbenchError, first_line

T = TypeVar("T")
PAUSES_SECONDS = (1.0, 3.0)  # before asking a second and a third time
LONGEST_WAIT_SECONDS = 60.0  # that the Hub may ask for; else the run says so and goes on with the next model
ACCESS_SECONDS = 5.0
MAIN = "main"  # the branch that is meant where none is named
PASSING = (408, 429, 500, 502, 503, 504)  # answers that may be different in a moment
FULL_OR_CLOSED = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)

# By HTTP status: whose fault it is, and the sentence. Everything else is the network's.
REFUSALS: Mapping[int, tuple[type[QuantbenchError], str]] = {
    401: (ModelError, "{what} is not on the Hub, or private, or HF_TOKEN is no valid token (401). Check the id, or set "
     "HF_TOKEN."),
    403: (ModelError, "{what} may not be read with this token (403: {reason}). Set HF_TOKEN to one that may."),
    404: (ModelError, "{what} is not on the Hub (404: {reason}). Check the id, or give a local copy."),
    429: (OfflineError, "{what} could not be fetched: the Hub asks for patience (429{wait}). Run again later; with "
     "HF_TOKEN set, more is allowed."),
}  # fmt: skip
GATED = (
    "{what} is gated: accept its terms on https://huggingface.co/{page} and set HF_TOKEN to a token of that account."
)
UNREACHED = "{what} could not be fetched{mirror} ({reason}). Check the network, or give a local copy."


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file as the Hub lists it. `digest`: 64 digits are its SHA-256, 40 git's SHA-1 of it; None: not listed."""

    name: str
    size: int | None  # bytes
    digest: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A repository's files at one commit, which is what a revision (a branch, a tag, a commit) was found to be."""

    source: str
    commit: str
    files: Mapping[str, HubFile]
    revision: str = MAIN


def endpoint() -> str | None:
    """The Hub or its mirror, from `HF_ENDPOINT` as it is now; None: the Hub."""
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


def hub_cache() -> Path:
    """The Hub's cache directory, by its library's own variables as they are now: `huggingface_hub.constants` has it as
    they were when that was imported, by whichever plugin came first.
    """
    variable = os.environ.get
    caches = variable("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    home = variable("HF_HOME") or f"{caches}/huggingface"
    chosen = variable("HF_HUB_CACHE") or variable("HUGGINGFACE_HUB_CACHE") or f"{home}/hub"
    return Path(os.path.expandvars(chosen)).expanduser()


def listing(source: str, revision: str = MAIN) -> Listing:
    """The files at a branch's head, a tag or a commit. Raises ModelError where the Hub says no, else OfflineError."""
    what = source if revision == MAIN else f"{source}@{revision}"
    return patiently(source, what, lambda: _ask(source, revision))


def _ask(source: str, revision: str) -> Listing:
    from huggingface_hub import HfApi

    asked = None if revision == MAIN else revision
    try:
        found = HfApi(endpoint=endpoint()).model_info(
            source, revision=asked, files_metadata=True, timeout=2 * ACCESS_SECONDS
        )
        files = [
            HubFile(name=file.rfilename, size=file.size, digest=file.lfs.sha256 if file.lfs else file.blob_id)
            for file in found.siblings or ()
        ]
    except (AttributeError, KeyError, TypeError):
        raise ValueError(f"{endpoint()} does not answer as the Hub does") from None
    # It becomes part of a path.
    if not isinstance(found.sha, str) or not re.fullmatch(r"[0-9a-f]{40}", found.sha):
        raise ValueError(f"the Hub names {found.sha!r:.80} as its commit")
    return Listing(source=source, revision=revision, commit=found.sha, files={file.name: file for file in files})


def patiently(source: str, what: str, call: Callable[[], T]) -> T:
    """What the call returns, asked for again where a failure may pass. Raises the refusal in our own words."""
    pauses = iter(PAUSES_SECONDS)
    while True:
        try:
            return call()
        except trouble() as error:
            pause = next(pauses, None)
            if pause is None or not _may_pass(error):
                raise refusal(source, what, error) from error
            time.sleep(max(pause, _asked_wait_seconds(error)))


def trouble() -> tuple[type[Exception], ...]:
    """What huggingface_hub, httpx and hf_xet raise when a transfer fails."""
    from huggingface_hub.errors import HTTPError

    client = importlib.import_module(HTTPError.__module__.partition(".")[0])  # httpx, or httpx2 since version 2
    return HTTPError, client.InvalidURL, OSError, ValueError, RuntimeError


def refusal(source: str, what: str, error: BaseException) -> QuantbenchError:
    """The error in one sentence; `what` is the model or the file that was asked for."""
    from huggingface_hub.errors import GatedRepoError, HFValidationError

    if isinstance(error, HFValidationError):
        return ModelError(f"{source!r} is not a Hub id like 'owner/name'. Check it, or give a local copy.")
    if isinstance(error, OSError) and error.errno in FULL_OR_CLOSED:
        return DiskError(f"{what} cannot be written to {hub_cache()}: {error.strerror}. Set HF_HOME to another folder.")
    chain = list(_chain(error))
    if any(isinstance(one, GatedRepoError) for one in chain):
        return ModelError(GATED.format(what=what, page=source))
    status = next(filter(None, map(_status, chain)), 0)
    kind, sentence = REFUSALS.get(status, (OfflineError, UNREACHED))
    wait = f", in {_asked_wait_seconds(error):.0f} s" if _asked_wait_seconds(error) else ""
    mirror = f" from {endpoint()}" if endpoint() else ""
    return kind(sentence.format(what=what, reason=_reason(chain, status), wait=wait, mirror=mirror))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__


def _reason(chain: list[BaseException], status: int) -> str:
    """What lies at the bottom: an answer's own message, or what the operating system said."""
    if not status:
        return first_line(chain[-1])
    said = next(filter(None, (getattr(one, "server_message", None) for one in chain)), "no reason given")
    return str(said).splitlines()[0]


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _may_pass(error: BaseException) -> bool:
    """Whether asking again makes sense; huggingface_hub has asked again already where a file's metadata failed."""
    from huggingface_hub.errors import HTTPError

    status = _status(error)
    if status is not None:
        return status in PASSING and _asked_wait_seconds(error) <= LONGEST_WAIT_SECONDS
    return isinstance(error, HTTPError)


def _asked_wait_seconds(error: BaseException) -> float:
    """What `Retry-After` says, if it gives seconds; else 0."""
    responses = (getattr(one, "response", None) for one in _chain(error))
    asked = next((response.headers.get("Retry-After", "") for response in responses if response is not None), "")
    return float(asked) if asked.isdecimal() else 0.0


def check_access(sources: Collection[str]) -> None:
    """Ask the Hub for all of these at once, and raise one ModelError that says what to do about each that it refuses.

    A Hub that cannot be reached is not complained about: the models will say so when they are fetched.
    """
    if not sources:
        return
    with ThreadPoolExecutor(max_workers=8) as pool:
        refused = [problem for problem in pool.map(_access_refusal, sorted(sources)) if problem]
    if refused:
        raise ModelError("\n".join([*refused, "Or leave out what may not be fetched, with -k."]))


def _access_refusal(source: str) -> str | None:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        url = hf_hub_url(source, "config.json", endpoint=endpoint())
        get_hf_file_metadata(url, timeout=ACCESS_SECONDS, endpoint=endpoint())
    except trouble() as error:
        problem = refusal(source, source, error)
        return str(problem) if isinstance(problem, ModelError) else None
    return None
