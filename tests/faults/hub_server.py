"""A Hub of our own on 127.0.0.1, with the faults that a test switches on.

It speaks what huggingface_hub asks for: model info with siblings and LFS metadata, the tree, resolve with HEAD and GET,
ETags, X-Repo-Commit, redirects of large files to a CDN (another host name, which no token may reach), and ranges. A
fault is a rule over requests: which, how often, and what happens instead.
"""

import hashlib
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


@dataclass(slots=True)
class Request:
    """One request as it came in."""

    side: str  # hub or cdn
    line: str  # "GET /path"
    range: str | None
    token: str | None


@dataclass(slots=True)
class Fault:
    """What happens to requests whose "SIDE METHOD /path" matches; `times`: how often, None for ever."""

    pattern: str
    act: "Callable[[Exchange], None]"
    times: int | None = None


@dataclass(slots=True)
class Repository:
    """Commits with their files, oldest first, the one that main is at, and those of other branches and tags."""

    commits: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    main: str = ""
    references: dict[str, str] = field(default_factory=dict)


class HubServer:
    """`with HubServer() as hub`: answers at `hub.url` until the block is left."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.leaving = threading.Event()
        self.sides = {side: _Side(self, side) for side in ("hub", "cdn")}

    @property
    def url(self) -> str:
        return self.sides["hub"].url

    def __enter__(self) -> "HubServer":
        for side in self.sides.values():
            threading.Thread(target=side.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leaving.set()
        for side in self.sides.values():
            side.shutdown()
            side.server_close()

    def publish(self, source: str, files: Mapping[str, bytes], reference: str = "main") -> str:
        """A new commit at the head of main, or of another branch; its hash."""
        names = json.dumps({name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())})
        commit = hashlib.sha1(names.encode()).hexdigest()
        repository = self.repositories.setdefault(source, Repository())
        repository.commits[commit] = dict(files)
        if reference == "main":
            repository.main = commit
        else:
            repository.references[reference] = commit
        return commit

    def fault(self, pattern: str, act: "Callable[[Exchange], None]", times: int | None = None) -> None:
        self.faults.append(Fault(pattern, act, times))

    def asked(self, pattern: str) -> list[Request]:
        """The requests so far whose "SIDE METHOD /path" matches."""
        return [request for request in self.requests if re.search(pattern, f"{request.side} {request.line}")]

    def blob(self, sha256: str) -> bytes | None:
        contents = (c for r in self.repositories.values() for files in r.commits.values() for c in files.values())
        return next((content for content in contents if hashlib.sha256(content).hexdigest() == sha256), None)


class _Side(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, hub: HubServer, side: str) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.hub = hub
        self.side = side

    @property
    def url(self) -> str:
        host = {"hub": "127.0.0.1", "cdn": "localhost"}[self.side]
        return f"http://{host}:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


def is_large(name: str) -> bool:
    """Whether the Hub keeps a file in LFS; large files live at the CDN, under their SHA-256."""
    return name.endswith((".safetensors", ".bin", ".gguf"))


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Exchange(BaseHTTPRequestHandler):
    """One connection. `alter` and `keep_bytes` are how a fault changes the next body."""

    protocol_version = "HTTP/1.1"
    server: _Side
    alter: Callable[[bytes], bytes] | None = None
    keep_bytes: int | None = None

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self.alter = self.keep_bytes = None
        line = f"{self.command} {self.path}"
        headers = self.headers
        hub = self.server.hub
        hub.requests.append(Request(self.server.side, line, headers.get("Range"), headers.get("Authorization")))
        for fault in hub.faults:
            if fault.times != 0 and re.search(fault.pattern, f"{self.server.side} {line}"):
                fault.times = None if fault.times is None else fault.times - 1
                return fault.act(self)
        return self.serve()

    do_HEAD = do_GET

    def serve(self) -> None:
        """The right answer."""
        path = self.path.partition("?")[0]
        if self.server.side == "cdn":
            self.serve_blob(path.strip("/"))
        elif match := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/(?:revision|tree)/([\w.%-]+))?", path):
            self.serve_api(match[1], match[2], tree="/tree/" in path)
        elif match := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/(\w+)/(.+)", path):
            self.serve_file(*match.groups())
        else:
            self.refuse(404, "EntryNotFound")

    def files_at(self, source: str, revision: str | None) -> tuple[str, Mapping[str, bytes]] | None:
        repository = self.server.hub.repositories.get(source)
        if repository is None:
            return self.refuse(404, "RepoNotFound")
        commit = repository.main if revision in (None, "main") else unquote(str(revision))
        commit = repository.references.get(commit, commit)
        if commit not in repository.commits:
            return self.refuse(404, "RevisionNotFound")
        return commit, repository.commits[commit]

    def serve_api(self, source: str, revision: str | None, tree: bool) -> None:
        if (found := self.files_at(source, revision)) is None:
            return
        commit, files = found
        listed = [_listed(name, content, tree) for name, content in files.items()]
        self.answer_json(listed if tree else {"id": source, "sha": commit, "siblings": listed})

    def serve_file(self, source: str, revision: str, name: str) -> None:
        if (found := self.files_at(source, revision)) is None:
            return
        commit, files = found
        if name not in files:
            self.refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        elif is_large(name):
            sha256 = hashlib.sha256(files[name]).hexdigest()
            linked = {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(files[name])), "X-Repo-Commit": commit}
            self.answer(302, linked | {"Location": f"{self.server.hub.sides['cdn'].url}/{sha256}"}, b"")
        else:
            self.answer(200, {"ETag": f'"{git_sha1(files[name])}"', "X-Repo-Commit": commit}, files[name])

    def serve_blob(self, sha256: str) -> None:
        content = self.server.hub.blob(sha256)
        if content is None:
            return self.refuse(404, "EntryNotFound")
        start = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if start is None:
            return self.answer(200, {"ETag": f'"{sha256}"'}, content)
        first = int(start[1])
        place = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        return self.answer(206, place, content[first:])

    def answer_json(self, value: Any) -> None:
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self.answer(status, {"X-Error-Code": code, "X-Error-Message": f"no: {code}", **(headers or {})}, b"")

    def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if self.alter is not None:
            body = self.alter(body)
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if self.keep_bytes is None else body[: self.keep_bytes])
        self.close_connection = self.keep_bytes is not None


def _listed(name: str, content: bytes, tree: bool) -> dict[str, Any]:
    sha256 = hashlib.sha256(content).hexdigest()
    entry: dict[str, Any] = {"size": len(content)}
    if is_large(name):  # git keeps a pointer, so its SHA-1 is not of the content
        entry["lfs"] = {"size": len(content), "sha256": sha256, "oid": sha256, "pointerSize": 134}
    oid = git_sha1(b"pointer" if is_large(name) else content)
    names = {"type": "file", "path": name, "oid": oid} if tree else {"rfilename": name, "blobId": oid}
    return entry | names
