"""`scripts/install`: which packages pip is asked for, and when; pip itself is a stand-in that writes it down."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT

_PYTHON = """#!/bin/sh
[ "$1" = -m ] || exit 0
echo "$*" >> said
for file; do :; done
[ -f "$file" ] && cat "$file" >> said
exit 0
"""
_WANTED = "--extra-index-url https://example.com/cpu\ntorch==2.0\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "install", tmp_path / "scripts")
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(_PYTHON)
    python.chmod(0o755)
    (tmp_path / "local.txt").write_text(_WANTED)
    return tmp_path


def said(place: Path, **variables: str) -> str:
    """What pip was asked for by another installation."""
    (place / "said").write_text("")
    subprocess.run([place / "scripts" / "install", "local.txt"], env=os.environ | variables, check=True)
    return (place / "said").read_text()


def test_packages_are_installed_once_and_anew_when_the_list_changes(place: Path) -> None:
    first = said(place)
    assert "install" in first
    assert _WANTED in first
    assert said(place) == ""
    (place / "local.txt").write_text(_WANTED + "numpy==2.0\n")
    assert "numpy==2.0" in said(place)


def test_with_cuda_torch_comes_without_the_index_of_those_that_lack_it(place: Path) -> None:
    said(place)
    asked = said(place, CUDA="1")
    assert "uninstall --yes torch" in asked
    assert "torch==2.0" in asked
    assert "example.com" not in asked
    assert said(place, CUDA="1") == said(place) == ""


def test_with_cuda_torch_comes_again_after_an_installation_without(place: Path) -> None:
    said(place, CUDA="1")
    (place / "local.txt").write_text(_WANTED + "numpy==2.0\n")
    assert "uninstall" not in said(place)
    assert "uninstall --yes torch" in said(place, CUDA="1")
