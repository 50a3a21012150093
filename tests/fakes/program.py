"""The program `ollama` around the fake server: its command line, its folder of models, its log.

    python -m tests.fakes.program serve | pull NAME | list | --version

It knows OLLAMA_HOST, OLLAMA_MODELS and HOME as the real one does. Where it is not like the real one: blobs are a few
bytes long whatever the manifest says of their size, nothing prunes them, and there are no other commands.

For tests alone:
    FAKE_PULL_FAILS=N       the first N pulls fail, counted in $HOME/.ollama/fake-pulls; a negative number: all
    FAKE_UNKNOWN=A,B        models that nobody has ever heard of; default: nosuchmodel:1b
    FAKE_SPEEDUP=X          how much faster the clock runs, default 20; inf: no waiting
    FAKE_LOAD_SECONDS=X     time to load a model, before the speedup; default 3.3
    FAKE_START_SECONDS=X    wait before listening
    FAKE_DIE_AFTER=X        exit with 2 that long after listening began
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

from starlette.types import ASGIApp

from tests.fakes.answers import go_time
from tests.fakes.exchange import PLAIN_JSON, Refused
from tests.fakes.listener import Listener
from tests.fakes.models import FakeModel, Library, full_name
from tests.fakes.ollama import FakeOllama

VERSION: Final = "0.32.15"
REGISTRY: Final = "library.example"
UNKNOWN: Final = "pull model manifest: file does not exist"
NO_SERVER: Final = "could not connect to ollama server, run 'ollama serve' to start it"

_MODEL_LAYER: Final = "application/vnd.ollama.image.model"
_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_SIZES: Final = {"gemma2:2b": 1_629_276_160, "llama3.1:8b": 4_900_000_000}
_OTHER_SIZE: Final = 400_000_000
_GRACE: Final = 0.5  # seconds that requests have to end after a signal
_USAGE: Final = """Large language model runner

Usage:
  ollama [flags]
  ollama [command]

Available Commands:
  serve       Start ollama
  pull        Pull a model from a registry
  list        List models

Flags:
  -h, --help      help for ollama
  -v, --version   Show version information
"""


class Failed(Exception):
    """The program ends with 1 and these words."""


# What the environment says


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is, by OLLAMA_HOST.

    Attributes:
        host: a name or an address, "0.0.0.0" for all.
        port: of TCP.
    """

    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Address:
        """Read HOST, HOST:PORT, :PORT or a URL; a URL without a port means that of its scheme, as with the real one."""
        text = text.strip(" \t\"'")
        parts = urlsplit(text if "://" in text else f"//{text}")
        port = {"http": 80, "https": 443}.get(parts.scheme, 11434)
        with suppress(ValueError):
            port = port if parts.port is None else parts.port
        return cls(parts.hostname or ("0.0.0.0" if parts.netloc else "127.0.0.1"), port)

    @property
    def url(self) -> str:
        """Where a client finds it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{_joined(host, self.port)}"


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _variable(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip(" \t\"'") or default


def _address() -> Address:
    return Address.of(_variable("OLLAMA_HOST"))


def _home() -> Path:
    """$HOME/.ollama.

    Raises:
        Failed: there is no HOME.
    """
    if not (home := os.environ.get("HOME")):
        raise Failed("$HOME is not defined")
    return Path(home) / ".ollama"


# The folder of models


class Folder(Library):
    """The models in a folder laid out as Ollama's, the newest first. What is set or deleted is so on disk, too.

    Args:
        path: of the folder; what it lacks is made.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._blobs, self._manifests = path / "blobs", path / "manifests"
        for part in (self._blobs, self._manifests):
            os.makedirs(part, 0o755, exist_ok=True)
        found = list(self._manifests.glob("*/*/*/*"))
        for manifest in sorted(found, key=lambda each: each.stat().st_mtime):
            try:
                self._know(self._read(manifest))
            except (OSError, ValueError, KeyError, TypeError) as problem:
                _log("routes.go:1370", "bad manifest", level="WARN", filepath=manifest, error=problem)
        _log("images.go:497", f"total blobs: {len(list(self._blobs.iterdir()))}")

    def begin(self, name: str) -> None:
        """Prepare for the download of a model that is not there.

        Raises:
            OSError: the folder cannot be written to.
        """
        if name not in self:
            self._partial(self._blob(_weights(full_name(name)))).touch()

    def __setitem__(self, name: str, model: FakeModel) -> None:
        full = full_name(name)
        try:
            self._write(full, replace(model, size=_SIZES.get(full, _OTHER_SIZE)))
        except OSError as problem:
            raise Refused(500, _as_go("open", problem), content_type=PLAIN_JSON) from None
        self._know(self._read(self._manifest(full)))

    def __delitem__(self, name: str) -> None:
        manifest = self._manifest(full_name(name))
        try:
            written = json.loads(manifest.read_bytes())
            manifest.unlink()
            for part in (written.get("config"), *written["layers"]):
                if part:
                    self._blob_called(part["digest"]).unlink(missing_ok=True)
        except OSError as problem:
            raise Refused(500, _as_go("remove", problem)) from None
        super().__delitem__(name)

    def _know(self, model: FakeModel) -> None:
        name = full_name(model.name)
        self.data = {name: model} | {key: other for key, other in self.data.items() if key != name}

    def _read(self, manifest: Path) -> FakeModel:
        """The model of a manifest. As with the real one, it is not there without the blob of its config."""
        written = json.loads(manifest.read_bytes())
        if "config" in written:
            self._blob_called(written["config"]["digest"]).stat()
        host, space, name, tag = manifest.relative_to(self._manifests).parts
        parts = [name] if (host, space) == (REGISTRY, "library") else [space, name]
        if host != REGISTRY:
            parts.insert(0, host)
        size = sum(layer["size"] for layer in written["layers"] if layer["mediaType"] == _MODEL_LAYER)
        modified = go_time(datetime.fromtimestamp(manifest.stat().st_mtime, UTC))
        return FakeModel(f"{'/'.join(parts)}:{tag}", size, modified_at=modified)

    def _write(self, full: str, model: FakeModel) -> None:
        details = {"model_format": "gguf", "model_family": model.family, "file_type": model.quantization, "for": full}
        config, weights = json.dumps(details).encode(), _weights(full)
        for content in (weights, config):
            partial = self._partial(self._blob(content))
            partial.write_bytes(content)
            partial.replace(self._blob(content))
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "digest": _digest(config), "size": len(config)},
            "layers": [{"mediaType": _MODEL_LAYER, "size": model.size, "digest": _digest(weights)}],
        }
        path = self._manifest(full)
        os.makedirs(path.parent, 0o755, exist_ok=True)
        new = self._manifests / f".new-{secrets.token_hex(4)}"
        new.write_text(json.dumps(manifest), encoding="utf-8")
        new.replace(path)

    def _manifest(self, full: str) -> Path:
        path, _, tag = full.rpartition(":")
        parts = path.split("/")
        return self._manifests.joinpath(*(REGISTRY, "library")[: max(0, 3 - len(parts))], *parts, tag)

    def _blob(self, content: bytes) -> Path:
        return self._blob_called(_digest(content))

    def _blob_called(self, digest: str) -> Path:
        return self._blobs / digest.replace(":", "-")

    @staticmethod
    def _partial(blob: Path) -> Path:
        return blob.with_name(f"{blob.name}-partial")


def _weights(full: str) -> bytes:
    return f"the weights of {full}\n".encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _as_go(action: str, problem: OSError) -> str:
    """A failure as Go words it."""
    return f"{action} {problem.filename}: {os.strerror(problem.errno or 0).lower()}"


# ollama serve


class Server(FakeOllama):
    """The fake server with its models in a folder.

    Args:
        folder: of the models.
        address: where to listen.
        failed: the file that counts the pulls that failed.
    """

    def __init__(self, folder: Folder, address: Address, failed: Path) -> None:
        super().__init__(
            load_seconds=float(_variable("FAKE_LOAD_SECONDS", "3.3")),
            speedup=float(_variable("FAKE_SPEEDUP", "20")),
            port=address.port,
        )
        self.models = self._folder = folder
        self._listener = _Listener(self, address)
        self._failed = failed
        self._unknown = {full_name(name) for name in _variable("FAKE_UNKNOWN", "nosuchmodel:1b").split(",")}
        wanted = int(_variable("FAKE_PULL_FAILS", "0"))
        self.pull_fails = wanted if wanted < 0 else max(0, wanted - self._failures())

    def set_models(self, names: Sequence[str]) -> None:
        for gone in set(self.models) - {full_name(name) for name in names}:
            self.unload(self.models[gone].name)
            del self.models[gone]
        for name in names:
            if name not in self.models:
                self.models[name] = FakeModel(name)

    def pull_problem(self, name: str) -> str | None:
        if full_name(name) in self._unknown:
            return UNKNOWN
        if problem := super().pull_problem(name):
            with suppress(OSError):
                self._failed.write_text(str(self._failures() + 1), encoding="utf-8")
            return problem
        try:
            self._folder.begin(name)
        except OSError as failure:
            return _as_go("open", failure)
        return None

    def _failures(self) -> int:
        try:
            return int(self._failed.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0


class _Listener(Listener):
    """Listens on any address, not on 127.0.0.1 alone."""

    def __init__(self, app: ASGIApp, address: Address) -> None:
        super().__init__(app, address.port)
        self._host = address.host

    async def start(self) -> None:
        if not self._config.loaded:
            self._config.load()
        self._server = await asyncio.get_running_loop().create_server(self._protocol, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]


def serve() -> int:
    """Serve until a signal. Returns the exit code.

    Raises:
        Failed: it cannot start.
    """
    home = _home()
    _make_key(home)
    return asyncio.run(_serve(home, _address()))


async def _serve(home: Path, address: Address) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(code: int) -> None:
        if not ended.done():
            ended.set_result(code)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, 0)
    own = {key: value for key, value in sorted(os.environ.items()) if key.startswith(("OLLAMA_", "LLAMA_ARG_"))}
    shown = " ".join(f"{key}:{value}" for key, value in own.items())
    _log("routes.go:1544", "server config", env=f"map[{shown}]")
    try:
        folder = Folder(Path(_variable("OLLAMA_MODELS", str(home / "models"))))
    except OSError as problem:
        raise Failed(f"{_as_go('mkdir', problem)}: ensure path elements are traversable") from None
    server = Server(folder, address, home / "fake-pulls")
    await asyncio.wait({ended}, timeout=float(_variable("FAKE_START_SECONDS", "0")))
    if ended.done():
        return ended.result()
    try:
        await server.come_back()
    except socket.gaierror:
        raise Failed(f"listen tcp: lookup {address.host}: no such host") from None
    except OSError as problem:
        words = os.strerror(problem.errno or 0).lower()
        raise Failed(f"listen tcp {_joined(address.host, address.port)}: bind: {words}") from None
    where = _joined("::" if address.host == "0.0.0.0" else address.host, urlsplit(server.url).port or 0)
    _log("routes.go:1597", f"Listening on {where} (version {VERSION})")
    if after := _variable("FAKE_DIE_AFTER"):
        loop.call_later(float(after), end, 2)
    code = await ended
    with suppress(TimeoutError):
        await asyncio.wait_for(server.go_away(), _GRACE)
    return code


def _make_key(home: Path) -> None:
    """Write the key that the real one shows to registries, if there is none.

    Raises:
        Failed: it cannot be written.
    """
    key = home / "id_ed25519"
    if os.path.exists(key):  # also False where that cannot be seen
        return
    print(f"Couldn't find '{key}'. Generating new private key.", flush=True)
    public = f"ssh-ed25519 {secrets.token_urlsafe(48)}"
    try:
        os.makedirs(home, 0o755, exist_ok=True)
    except OSError as problem:
        raise Failed(f"could not create directory {_as_go('mkdir', problem)}") from None
    try:
        for path, content in ((key, "not a real key\n"), (home / "id_ed25519.pub", f"{public}\n")):
            path.write_text(content, encoding="utf-8")
        key.chmod(0o600)
    except OSError as problem:
        raise Failed(_as_go("open", problem)) from None
    print(f"Your new public key is: \n\n{public}\n", flush=True)


def _log(source: str, message: str, *, level: str = "INFO", **more: object) -> None:
    """One line as Go's slog writes it."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    words = {"msg": message, **more}
    told = " ".join(f"{key}={json.dumps(str(value), ensure_ascii=False)}" for key, value in words.items())
    print(f"time={now} level={level} source={source} {told}", file=sys.stderr, flush=True)


# The commands that ask a server


@contextmanager
def _asked(method: str, path: str, body: dict[str, Any] | None = None) -> Iterator[HTTPResponse]:
    """The server's answer.

    Raises:
        Failed: it refuses, or goes away, or there is none.
    """
    data = None if body is None else json.dumps(body).encode()
    request = Request(_address().url + path, data, {"content-type": PLAIN_JSON}, method=method)
    try:
        # Straight to it, as the real one goes to an address of its own machine.
        answer = build_opener(ProxyHandler({})).open(request)
    except HTTPError as refusal:
        raise Failed(json.loads(refusal.read() or b"{}").get("error") or str(refusal)) from None
    except (OSError, HTTPException):
        raise Failed(NO_SERVER) from None
    try:
        with answer:
            yield answer
    except (OSError, HTTPException):
        raise Failed("unexpected EOF") from None


def pull(name: str) -> int:
    """Have the server fetch a model, and show how it goes on. Returns the exit code.

    Raises:
        Failed: with the server's words.
    """
    status = shown = ""
    with _asked("POST", "/api/pull", {"model": name}) as answer:
        for raw in answer:
            line = json.loads(raw)
            if "error" in line:
                raise Failed(line["error"])
            before, status = shown, line["status"]
            shown = f"{status}{_progress(line)}"
            if shown != before:
                print(shown, file=sys.stderr, flush=True)
    if status != "success":
        raise Failed("unexpected EOF")
    return 0


def _progress(line: dict[str, Any]) -> str:
    if "total" not in line:
        return ""
    done, total = line.get("completed", 0), line["total"]
    return f": {100 * done // total:3d}% {_human_size(done)}/{_human_size(total)}"


def show_list() -> int:
    """Print the table of models. Returns the exit code.

    Raises:
        Failed: there is no server.
    """
    with _asked("GET", "/api/tags") as answer:
        models = json.load(answer)["models"]
    rows = [("NAME", "ID", "SIZE", "MODIFIED")]
    rows += [
        (each["name"], each["digest"][:12], _human_size(each["size"]), _ago(each["modified_at"])) for each in models
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("".join(f"{cell:{width}}    " for cell, width in zip(row, widths, strict=True)))
    return 0


def show_version() -> int:
    """Print the version, and whether a server runs. Returns the exit code."""
    try:
        with _asked("GET", "/api/version") as answer:
            running = json.load(answer)["version"]
    except Failed:
        print("Warning: could not connect to a running Ollama instance")
        running = ""
    print(f"ollama version is {running}" if running == VERSION else f"Warning: client version is {VERSION}")
    return 0


def _human_size(size: float) -> str:
    unit = "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 10 and size != int(size) else f"{int(size)} {unit}"


def _ago(moment: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(f"{moment[:19]}+00:00")).total_seconds()
    for length, unit in ((604_800, "week"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if (number := int(seconds // length)) >= 1:
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "Less than a second ago"


# The command line


def main(argv: Sequence[str]) -> int:
    """Run the program. Returns the exit code.

    Args:
        argv: what stands behind the program's name.
    """
    try:
        match list(argv):
            case [] | ["-h" | "--help" | "help", *_]:
                print(_USAGE, end="")
                return 0
            case ["-v" | "--version"]:
                return show_version()
            case ["serve" | "start"]:
                return serve()
            case ["list" | "ls"]:
                return show_list()
            case ["pull", str(name)]:
                return pull(name)
            case ["serve" | "start" | "list" | "ls" | "pull" as command, *rest]:
                raise Failed(f"accepts {int(command == 'pull')} arg(s), received {len(rest)}")
            case [command, *_]:
                raise Failed(f'unknown command "{command}" for "ollama"')
    except Failed as failure:
        print(f"Error: {failure}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        pass
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
