"""Programs under test as processes of their own: our server, and the fake Ollama beside it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from app.settings import ROOT, Settings, variable_names

_PATIENCE: Final = 60.0
_SERVER: Final = (sys.executable, "-m", "app")
_CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS: Final = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def chromium() -> str | None:
    """The path of a Chromium on this machine."""
    return next(filter(None, map(shutil.which, _CHROMIUM)), None)


def _ports() -> Iterator[int]:
    """Ports of this process' own, one after another: those that the system gives to others are higher, and tests that
    run beside these (pytest-xdist calls them gw0, gw1...) have others."""
    beside = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    first, count = 20_000 + beside * 3_000, 3_000
    for number in itertools.count(os.getpid()):
        yield first + number % count


_PORTS: Final = _ports()


def free_port() -> int:
    """A port that nobody listens on now, another one each time."""
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("they do not end")


@dataclass
class Program:
    """A running program. `log` holds what it printed, `environment` what it was started with."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=10, trust_env=False).json()

    def post(self, path: str, body: Any) -> None:
        httpx.post(self.url + path, json=body, timeout=10, trust_env=False).raise_for_status()

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(timeout=20)

    def text(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def clean_environment(**variables: str) -> dict[str, str]:
    """This process' environment without any setting of ours but the given ones."""
    ours = {name for field in Settings.model_fields for name in variable_names(field)}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    # The memory of the machine that runs the tests is not what they are about.
    return kept | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "MEMORY_GUARD": "0"} | variables


_HURRIED: Final = """
import importlib.util
import sys


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            exec(LINE, {"module": module})

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, Finder())
"""


def hurried(folder: Path, name: str, line: str) -> dict[str, str]:
    """Variables with which a server runs a line as soon as a module is loaded, `module` in it: for times that are no
    settings, and longer than a test should wait.

    Args:
        folder: for what makes Python do that.
        name: of the module.
        line: what it runs.
    """
    words = _HURRIED.replace("NAME", repr(name)).replace("LINE", repr(line))
    (folder / "sitecustomize.py").write_text(words, encoding="ascii")
    return {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}


def quick_pings(folder: Path, interval: float, timeout: float = 20.0) -> dict[str, str]:
    """Variables with which a server asks its pages for a sign of life every `interval` seconds, and gives them
    `timeout` to answer; engine.io's own numbers are 25 and 20."""
    given = "module.BaseServer.__init__.__defaults__"
    line = f"{given} = ({given}[0], {interval}, {timeout}, *{given}[3:])"
    return hurried(folder, "engineio.base_server", line)


def _start(command: Sequence[str], url: str, path: str, folder: Path, environment: Mapping[str, str]) -> Program:
    log = folder / f"{Path(command[0]).name}-{time.monotonic_ns()}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=dict(environment), stdout=out, stderr=subprocess.STDOUT)
    program = Program(url, process, log, dict(environment))
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url + path, timeout=2, trust_env=False)
            return program
        except httpx.TransportError:
            time.sleep(0.02)
    program.stop()
    raise RuntimeError(f"{command} did not come up:\n{program.text()}")


@contextmanager
def fake_ollama(folder: Path, *arguments: str, port: int | None = None) -> Iterator[Program]:
    """A fake Ollama; see tests.fakes.ollama for its arguments."""
    port = port or free_port()
    command = [sys.executable, "-m", "tests.fakes.ollama", "--port", str(port), *arguments]
    program = _start(command, f"http://127.0.0.1:{port}", "/", folder, clean_environment())
    try:
        yield program
    finally:
        program.stop()


@contextmanager
def server(folder: Path, *, command: Sequence[str] = _SERVER, **variables: str) -> Iterator[Program]:
    """Our server, with the given settings; its data is in `folder`/data.

    Args:
        folder: for its data and its log.
        command: what starts it; it runs in `folder`.
        variables: settings; PORT is a free one by default.
    """
    port = int(variables.get("PORT") or free_port())
    environment = clean_environment(
        **{"PORT": str(port), "HOST": "127.0.0.1", "DATA_DIR": str(folder / "data"), "QWEN_MODEL": ""} | variables
    )
    program = _start(command, f"http://127.0.0.1:{port}", "/favicon", folder, environment)
    try:
        yield program
    finally:
        program.stop()
