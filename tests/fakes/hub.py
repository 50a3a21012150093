"""A Hugging Face hub on this machine, as far as huggingface_hub's downloads need one.

Speaks, for each repository: `/api/models/NAME` and `/revision/REV` (what files there are), `/tree/REV` (their sizes and
hashes), and `HEAD` and `GET /NAME/resolve/REV/FILE` with ETag, commit and ranges. An unknown name is answered as the
real one does without a token: 401 with the code RepoNotFound.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PIECE = 1 << 20


@dataclass
class FakeHub:
    """What the hub has, what it was asked, and how it misbehaves.

    Attributes:
        repositories: files by repository name.
        requests: method and path of each request, with the first byte asked for of a file.
        failing: answer everything by 500.
        damaging: send zeros instead of a file's content.
        hold_after: bytes of a file after which it sends nothing more until `released` is set; None: never.
        holding: set when it has begun to hold.
    """

    repositories: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    failing: bool = False
    damaging: bool = False
    hold_after: int | None = None
    holding: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def fetched(self) -> dict[str, int]:
        """Names of the files whose content was asked for, and from which byte on the last time."""
        asked = ((path, start) for method, path, start in self.requests if method == "GET" and "/resolve/" in path)
        return {path.rpartition(f"/resolve/{COMMIT}/")[2]: start for path, start in asked}

    @contextmanager
    def serving(self) -> Iterator[FakeHub]:
        """Answer on a free port of this machine, at `url`."""

        class Handler(_Handler):
            hub = self

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            self.released.set()
            server.shutdown()
            thread.join()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_GET(self) -> None:
        try:
            self._answer()
        except ConnectionError:  # the client has left
            self.close_connection = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the tests look at `requests`."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.hub.requests.append((self.command, path, start))
        if self.hub.failing:
            return self._json(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "Internal Error"})
        api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models/").strip("/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        files = self.hub.repositories.get(name)
        if files is None:
            return self._json(
                HTTPStatus.UNAUTHORIZED, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
            )
        if not api:
            return self._file(files, "/".join(rest[2:]), start)
        if rest[:1] == ["tree"]:
            return self._json(HTTPStatus.OK, [_entry(file, content) for file, content in files.items()])
        siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
        self._json(HTTPStatus.OK, {"id": name, "sha": COMMIT, "siblings": siblings})

    def _file(self, files: Mapping[str, bytes], file: str, start: int) -> None:
        if file not in files:
            return self._json(HTTPStatus.NOT_FOUND, {"error": "no such file"}, {"X-Error-Code": "EntryNotFound"})
        content = files[file]
        self.send_response(HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK)
        self.send_header("ETag", f'"{_etag(file, content)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "GET":
            self._send(bytes(len(content)) if self.hub.damaging else content, start)

    def _send(self, content: bytes, start: int) -> None:
        hold = self.hub.hold_after
        for at in range(start, len(content), _PIECE):
            if hold is not None and at >= hold:
                self.hub.holding.set()
                self.hub.released.wait()
            self.wfile.write(content[at : at + _PIECE])

    def _json(self, status: HTTPStatus, body: object, headers: Mapping[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _entry(file: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": file, "size": len(content), "oid": _git_hash(content)}
    if _is_large(file):
        entry["lfs"] = {"oid": _etag(file, content), "size": len(content), "pointerSize": 134}
    return entry


def _is_large(file: str) -> bool:
    """Whether the hub keeps it in large file storage."""
    return file.endswith(".safetensors")


def _etag(file: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if _is_large(file) else _git_hash(content)


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
