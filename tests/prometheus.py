"""A real Prometheus as a process of its own, with the configuration of deploy/ as it stands but for who is asked, how
often, and where the token is.

It takes Debian's package `prometheus`; where that is missing, the tests that need it are skipped with that reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from app.settings import ROOT
from tests.site import Program, free_port

FOLDER: Final = ROOT / "deploy" / "prometheus"
_PATIENCE: Final = 30.0


def installed(name: str) -> str:
    """The path of `prometheus` or `promtool`."""
    program = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/bin")
    if program is None:
        pytest.skip(f"no {name} on this machine; on Debian or Ubuntu: apt-get install prometheus")
    return program


def promtool(*arguments: str | Path) -> str:
    """What it prints; an error if it is not content."""
    ended = subprocess.run([installed("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def configured(folder: Path, token: str, places: Mapping[str, str]) -> Path:
    """The configuration with its rules in a folder.

    Args:
        folder: where they are put.
        token: that `/metrics` wants.
        places: what is written in the configuration in place of what; each is there once.
    """
    shutil.copy(FOLDER / "alerts.yml", folder)
    (folder / "token").write_text(token, encoding="utf-8")
    text = (FOLDER / "prometheus.yml").read_text(encoding="utf-8")
    for ours, here in ({"/tmp/metrics_token": str(folder / "token")} | dict(places)).items():
        assert text.count(ours) == 1, ours
        text = text.replace(ours, here)
    file = folder / "prometheus.yml"
    file.write_text(text, encoding="utf-8")
    return file


class Prometheus:
    """One that runs, and what can be asked of it."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def value(self, expression: str) -> list[float]:
        """What an expression says now, one number for each series; those that are no number are left out."""
        found = self.program.get(f"/api/v1/query?{urlencode({'query': expression})}")
        assert found["status"] == "success", found
        values = [float(sample["value"][1]) for sample in found["data"]["result"]]
        return [value for value in values if value == value]

    def get(self, path: str) -> Any:
        return self.program.get(f"/api/v1/{path}")["data"]


@contextmanager
def prometheus(folder: Path, site: Program, token: str) -> Iterator[Prometheus]:
    """One that reads a server of ours several times a second."""
    port = free_port()
    places = {
        "chat:8000": urlsplit(site.url).netloc,
        "localhost:9090": f"127.0.0.1:{port}",
        "scrape_interval: 15s": "scrape_interval: 300ms",
        "evaluation_interval: 15s": "evaluation_interval: 1s",
    }
    file = configured(folder, token, places)
    log = folder / "prometheus.log"
    options = [f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    with log.open("wb") as out:
        command = [installed("prometheus"), f"--config.file={file}", *options]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    program = Program(f"http://127.0.0.1:{port}", process, log)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _is_ready(program):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Prometheus did not come up:\n{program.text()}")
            time.sleep(0.05)
        yield Prometheus(program)
    finally:
        program.stop()


def _is_ready(program: Program) -> bool:
    try:
        return httpx.get(f"{program.url}/-/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
