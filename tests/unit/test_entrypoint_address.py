"""What entrypoint.sh makes of its settings, with programs that do nothing in the place of Python and Ollama."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT


def said(folder: Path, **variables: str) -> str:
    """What it logs until the app, which ends at once, has ended."""
    shutil.copy(ROOT / "entrypoint.sh", folder)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "python3").write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
    (programs / "python3").chmod(0o755)
    path = f"{programs}:/usr/bin:/bin"
    if shutil.which("ollama", path=path):
        pytest.skip("an Ollama is installed here, which it would start")
    environment = {"PATH": path, "HOME": str(folder), "DATA_DIR": str(folder / "data"), **variables}
    ended = subprocess.run(
        ["bash", str(folder / "entrypoint.sh")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return ended.stderr


HERE = (
    "",
    "localhost",
    "LOCALHOST:11434",
    "http://localhost.localdomain:11434/",
    "127.0.0.1:11500",
    "0.0.0.0",
    "[::1]:11434",
    "http://[::]",
    ":11434",
)
ELSEWHERE = (
    "ollama:11434",
    "http://[fd00::1]:11434",
    "10.0.0.0.example.org",
    "http://localhost.example.org:11434",
    "https://mylocalhost",
)


@pytest.mark.parametrize("host", HERE)
def test_an_ollama_at_loopback_is_its_own(tmp_path: Path, host: str) -> None:
    assert "there is no ollama here, none is started" in said(tmp_path, OLLAMA_HOST=host)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_an_ollama_at_any_other_address_is_left_to_itself(tmp_path: Path, host: str) -> None:
    assert f"Ollama is at {host}, none is started here" in said(tmp_path, OLLAMA_HOST=host)
