"""Real servers with OpenAI's API as processes of their own: llama.cpp's, and `transformers serve`.

They run the guide; what a machine lacks for that is the reason that a test is skipped with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import httpx
import pytest

from app.settings import GUIDE_DIR, ROOT
from tests.site import Program, free_port

_PATIENCE: Final = 120.0  # seconds; llama-server-local may have to install itself first
# An installer of Debian's llama-server, beside the repository on the developers' machines; it wants root.
_LOCAL: Final = ROOT.parent / "shared" / "tools" / "llama-server-local"
_HUB_NAME: Final = "chainlit-ollama/guide"
_REVISION: Final = "0" * 40


def guide() -> Path:
    """The guide's folder; skips the test where it is not there."""
    if not (GUIDE_DIR / "config.json").is_file():
        pytest.skip("the guide is not there; train it: make train-guide")
    return GUIDE_DIR


def guide_as_gguf(folder: Path) -> Path:
    """The guide written as GGUF into `folder`; skips the test where the packages for that are missing."""
    missing = [package for package in ("gguf", "torch", "transformers") if find_spec(package) is None]
    if missing:
        pytest.skip(f"writing GGUF takes {', '.join(missing)}; install them: make test")
    from training.export_gguf import export

    out = folder / "guide.gguf"
    export(guide(), out)
    return out


@contextmanager
def llama_server(model: Path, folder: Path, *options: str) -> Iterator[Program]:
    """llama.cpp's server: $LLAMA_SERVER, the one on PATH, or the one that llama-server-local installs.

    Args:
        model: a GGUF file.
        folder: for its log.
        options: its own, such as `-c 512`.
    """
    with _running([*_llama_command(), str(model), "--slots", *options], folder) as program:
        yield program


@contextmanager
def transformers_serve(model: Path, folder: Path) -> Iterator[tuple[Program, str]]:
    """`transformers serve` with a model as if it had been downloaded from the hub; with the name that it goes by.

    It lists the models of the hub's cache alone, so the folder is made the cache's only entry.
    """
    missing = [package for package in ("accelerate", "openai", "torch", "transformers") if find_spec(package) is None]
    if missing:
        pytest.skip(f"transformers serve takes {', '.join(missing)}; install them: make test")
    entry = folder / "hub" / f"models--{_HUB_NAME.replace('/', '--')}"
    for part in ("refs", "blobs", f"snapshots/{_REVISION}"):
        (entry / part).mkdir(parents=True)
    (entry / "refs" / "main").write_text(_REVISION)
    for file in model.iterdir():
        (entry / "snapshots" / _REVISION / file.name).symlink_to(file)
    environment = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder / "hub")}
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", _HUB_NAME]
    with _running([*command, "--host", "127.0.0.1", "--device", "cpu"], folder, environment) as program:
        yield program, _HUB_NAME


def _llama_command() -> list[str]:
    """The command up to the model."""
    found = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    if found is None and os.access(_LOCAL, os.X_OK) and os.geteuid() == 0:
        found = str(_LOCAL)
    if found is None:
        pytest.skip("no llama-server on PATH nor in LLAMA_SERVER; on Debian: apt-get install llama.cpp-tools")
    return [found] if Path(found).name == _LOCAL.name else [found, "--model"]


@contextmanager
def _running(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> Iterator[Program]:
    """A server that gets `--port`, ready when its /health says 200; ended when the context is left."""
    port = free_port()
    log = folder / f"server-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder,
            env=os.environ | (environment or {}),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    program = Program(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait_until_ready(program)
        yield program
    finally:
        program.stop()


def _wait_until_ready(program: Program) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and program.process.poll() is None:
        try:
            if httpx.get(f"{program.url}/health", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"{program.process.args!r} did not come up:\n{program.text()}")
