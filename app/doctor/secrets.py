"""Keys and tokens: whether they can be guessed, and whether others on this machine can read them."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.doctor.check import Finding, Patient
from app.keys import is_from_a_guide, key_file
from app.secret_key import SECRET_FILE, load_secret
from app.settings import Settings
from app.storage.database import FILE

_SHORT: Final = 16
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


async def secrets(patient: Patient) -> Sequence[Finding]:
    """SECRET_KEY, API_KEYS, METRICS_TOKEN, and the files that hold what is private."""
    settings = patient.settings
    # A file may be on a disk that hangs.
    return await asyncio.to_thread(
        lambda: [_secret_key(settings), _api_keys(settings), _metrics_token(patient), *_modes(settings)]
    )


def _secret_key(settings: Settings) -> Finding:
    name = "secret key"
    if settings.secret_key is not None:
        return Finding(name, "ok", "SECRET_KEY is set, and long and varied enough")
    if not settings.uses_database:
        return Finding(name, "ok", "made anew at each start, for nothing is kept")
    file = settings.data_dir / SECRET_FILE
    try:
        if not file.exists():
            advice = "set SECRET_KEY, the same on each (openssl rand -hex 32)" if settings.database_url else ""
            found = Finding(name, "ok", f"{file} is made at the first start", advice and f"several servers: {advice}")
        else:
            load_secret(settings.data_dir)
            found = Finding(name, "ok", f"in {file}")
    except PermissionError:
        found = Finding(name, "warning", f"{file} cannot be looked at by this user", "run this as the server's user")
    except OSError as problem:
        if isinstance(problem.__cause__, PermissionError):
            found = Finding(name, "warning", f"{file} cannot be read by this user", "run this as the server's user")
        else:
            told, _, advice = str(problem).partition(". ")
            found = Finding(name, "problem", told, advice)
    return found


def _api_keys(settings: Settings) -> Finding:
    weak = [key.name for key in settings.keys if key.is_weak]
    if weak:
        advice = "longer ones that nobody can guess: openssl rand -hex 24"
        return Finding("API_KEYS", "warning", f"can be guessed: {', '.join(weak)}", advice)
    if settings.keys:
        return Finding("API_KEYS", "ok", f"{len(settings.keys)}, none that is easily guessed")
    told = "none: programs need to sign in" if settings.login else "none: any program that reaches the port may ask"
    return Finding("API_KEYS", "ok", told)


def _metrics_token(patient: Patient) -> Finding:
    name, token = "METRICS_TOKEN", patient.settings.metrics_token
    if token is None:
        hint = "visitors may seem to come from one here (IPv6, rootless Docker): on the open internet set it"
        told = "not set: /metrics answers loopback and private addresses only"
        return Finding(name, "ok", told, hint if patient.in_a_container else "")
    value = token.get_secret_value()
    if len(value) < _SHORT or is_from_a_guide(value):
        return Finding(name, "warning", "can be guessed", "a longer one: openssl rand -hex 24")
    return Finding(name, "ok", "set")


def _modes(settings: Settings) -> list[Finding]:
    """Files that others on this machine may read, or write."""
    files = [settings.data_dir / SECRET_FILE, settings.data_dir / FILE, *_named_by(settings)]
    open_to_all, unseen = [], []
    for file in files:
        try:
            if file.stat().st_mode & _OTHERS:
                open_to_all.append(str(file))
        except PermissionError:
            unseen.append(str(file))
        except OSError:
            continue  # it is not there, or keys stand in the variable itself
    name = "private files"
    if open_to_all:
        listed = " ".join(open_to_all)
        return [Finding(name, "warning", f"others may read {', '.join(open_to_all)}", f"chmod 600 {listed}")]
    if unseen:
        told = f"{', '.join(unseen)} cannot be looked at by this user"
        return [Finding(name, "warning", told, "run this as the server's user")]
    return [Finding(name, "ok", "nobody else may read them")]


def _named_by(settings: Settings) -> list[Path]:
    """The file of API_KEYS, if it names one."""
    named = key_file(settings.api_keys.get_secret_value()) if settings.api_keys is not None else None
    return [] if named is None else [named]
