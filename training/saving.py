"""Folders that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

HALF: Final = ".half-"
_OLD: Final = ".old-"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_FULL_TEXTS: Final = (*map(os.strerror, _FULL), "PytorchStreamWriter failed writing", "iostream error")


class DiskFullError(Exception):
    """There was no room for what was to be saved; the message says what to do."""


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Gives a folder of another name to write to, and renames it to `folder` when all of it is on the disk.

    Whatever was in `folder` before stays until then; if writing fails, what was written is removed.

    Raises:
        DiskFullError: the disk is full.
    """
    half = folder.with_name(f"{HALF}{folder.name}")
    old = folder.with_name(f"{_OLD}{folder.name}")
    shutil.rmtree(half, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        yield half
        make_readable(half)
        for file in half.rglob("*"):
            _to_disk(file)
        if folder.exists():
            os.replace(folder, old)
        os.replace(half, folder)
        _to_disk(folder.parent)
    except Exception as problem:
        shutil.rmtree(half, ignore_errors=True)
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        if is_full(problem):
            raise DiskFullError(f"the disk is full: {folder} could not be saved") from problem
        raise
    shutil.rmtree(old, ignore_errors=True)


def make_readable(folder: Path) -> None:
    """Let who may look into a folder read its files too: safetensors writes them for their owner alone, and in a
    container another user reads them."""
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file():
            with suppress(PermissionError):  # a disk that knows no such rights
                file.chmod(mode)


def tidy(folder: Path) -> None:
    """Remove what a process that was killed left half-written in a folder, and put back what it was replacing."""
    for path in folder.glob(f"{HALF}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{_OLD}*"):
        name = path.with_name(path.name.removeprefix(_OLD))
        if name.exists():
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.replace(path, name)


def is_full(problem: BaseException | None) -> bool:
    """Whether an error comes from a full disk or quota. safetensors has the reason in its text only, and torch says no
    more than that it could not write."""
    while problem is not None:
        if isinstance(problem, OSError) and problem.errno in _FULL:
            return True
        if any(text in str(problem) for text in _FULL_TEXTS):
            return True
        problem = problem.__cause__ or problem.__context__
    return False


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
