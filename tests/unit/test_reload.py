"""RELOAD: a source file that changes starts the server again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import ROOT
from tests.site import Program, clean_environment, fake_ollama, free_port

_PATIENCE = 60.0


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the program, to be changed."""
    folder = tmp_path / "program"
    for name in ("app", ".chainlit", "public"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def site(sources: Path, tmp_path: Path) -> Iterator[Program]:
    port = free_port()
    with fake_ollama(tmp_path, "--load-seconds", "0") as ollama, (tmp_path / "log").open("wb") as out:
        environment = clean_environment(
            PORT=str(port),
            HOST="127.0.0.1",
            DATA_DIR=str(tmp_path / "data"),
            OLLAMA_HOST=ollama.url,
            QWEN_MODEL="",
            RELOAD="1",
            PYTHONPATH=str(sources),
        )
        process = subprocess.Popen([sys.executable, "-m", "app"], cwd=sources, env=environment, stdout=out, stderr=out)
        program = Program(f"http://127.0.0.1:{port}", process, tmp_path / "log")
        try:
            yield program
        finally:
            program.stop()


def health(site: Program) -> dict[str, Any] | None:
    """What the server says of itself; None: it does not answer."""
    try:
        found: dict[str, Any] = site.get("/health")["process"]
        return found
    except httpx.TransportError:
        return None


def until(site: Program, what: Callable[[dict[str, Any] | None], bool]) -> dict[str, Any] | None:
    deadline = time.monotonic() + _PATIENCE
    while not what(found := health(site)):
        assert time.monotonic() < deadline, site.text()
        time.sleep(0.05)
    return found


def test_a_change_starts_the_server_again_also_after_one_that_broke_it(site: Program, sources: Path) -> None:
    first = until(site, lambda found: found is not None)
    assert first is not None
    file = sources / "app" / "__init__.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(first["version"], "9.9.9"), encoding="utf-8")
    second = until(site, lambda found: found is not None and found["version"] == "9.9.9")
    assert second is not None
    assert second["pid"] not in (first["pid"], site.process.pid)
    file.write_text("this is no Python", encoding="utf-8")
    until(site, lambda found: found is None and "the next change starts it" in site.text())
    file.write_text(text, encoding="utf-8")
    third = until(site, lambda found: found is not None)
    assert third is not None
    assert third["version"] == first["version"]
    assert "app/__init__.py changed" in site.text()
    assert site.interrupt() == 0
    assert health(site) is None
