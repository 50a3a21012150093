"""The key that signs Chainlit's cookie."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Final

SECRET_FILE: Final = "secret.key"
_BYTES: Final = 32  # 256 bits


def new_secret() -> str:
    """A key for this process alone."""
    return secrets.token_urlsafe(_BYTES)


def load_secret(folder: Path) -> str:
    """The key that signs Chainlit's cookie, made once and kept in `folder` for its owner alone.

    Raises:
        OSError: it can be neither read nor made; its text is a sentence that says what to do.
    """
    path = folder / SECRET_FILE
    try:
        return _make_secret(path)
    except FileExistsError:
        return _kept_secret(path)
    except OSError as problem:
        raise OSError(
            f"cannot write in the data folder {folder.absolute()} ({problem.strerror}). "
            "Give this user the right to, or name another folder: DATA_DIR=/path/to/folder"
        ) from problem


def _make_secret(path: Path) -> str:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        secret = new_secret()
        file.write(secret)
    return secret


def _kept_secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="ascii").strip()
    except OSError as problem:
        raise OSError(
            f"cannot read the key {path.absolute()} ({problem.strerror}). "
            "Give this user the right to, or name another data folder: DATA_DIR=/path/to/folder"
        ) from problem
    except UnicodeDecodeError:
        secret = ""
    if len(secret) < _BYTES:
        raise OSError(
            f"{path.absolute()} holds no key of at least {_BYTES} characters. Delete it, and a new one is made"
        )
    return secret
