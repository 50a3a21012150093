"""Room for conversations and for models, and whether they may be written."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.doctor.check import Finding, Patient
from app.doctor.ports import health_of
from app.machine import MIB
from app.settings import Settings

_LITTLE: Final = 200 * MIB
_SOME: Final = 1024 * MIB
# A small model; a download of it needs as much.
_MODEL: Final = 2 * 1024 * MIB
# Where Ollama keeps models if not told otherwise: the user's own, and the service's of its installer on Linux.
_STORES: Final = ("~/.ollama/models", "/usr/share/ollama/.ollama/models")


async def disks(patient: Patient) -> Sequence[Finding]:
    """The disks of DATA_DIR and of Ollama's models."""
    settings = patient.settings
    # Another user's server, of which this one sees no more than that.
    running = patient.running or await health_of(settings.host, settings.port) is not None
    return await asyncio.to_thread(lambda: [_data(settings, running), *_models(patient)])


def _data(settings: Settings, running: bool) -> Finding:
    name = "disk of DATA_DIR"
    if not settings.uses_database:
        return Finding(name, "ok", "nothing is kept, no disk is needed")
    folder = settings.data_dir.absolute()
    place = _existing(folder)
    if place is None:
        return Finding(name, "warning", f"{folder} cannot be looked at by this user", "run this as the server's user")
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        advice = "give the server's user the right to, or name another folder: DATA_DIR=/path/to/folder"
        if running:
            return Finding(name, "warning", f"this user cannot write in {place}", "run this as the server's user")
        return Finding(name, "problem", f"this user cannot write in {place}", advice)
    free = shutil.disk_usage(place).free
    told = f"{free // MIB:,} MiB free at {folder}"
    if settings.database_url is None and free < _LITTLE:
        return Finding(name, "problem", told, "free some room, or conversations are not kept: docker image prune")
    if settings.database_url is None and free < _SOME:
        return Finding(name, "warning", told, "free some room soon, or set HISTORY_MAX_MB below that")
    return Finding(name, "ok", told)


def _models(patient: Patient) -> list[Finding]:
    name = "disk of the models"
    if not patient.ollama_is_here:
        return []
    named = patient.settings.ollama_store
    stores = [named] if named else [Path(store).expanduser() for store in _STORES]
    store = next((store for store in stores if _is_there(store)), None)
    if store is None:
        where = "no folder of Ollama's is to be seen by this user"
        return [Finding(name, "ok", where, "OLLAMA_MODELS=/path/to/folder tells where it is, if it is elsewhere")]
    free = shutil.disk_usage(store).free
    told = f"{free // MIB:,} MiB free at {store}"
    if free < _MODEL:
        return [Finding(name, "warning", told, "too little to pull a model; remove one: ollama rm NAME")]
    return [Finding(name, "ok", told)]


def _existing(folder: Path) -> Path | None:
    """The folder, or the nearest one above it that is there; None: it cannot be looked at."""
    for place in (folder, *folder.parents):
        try:
            place.stat()
        except PermissionError:
            return None
        except OSError:
            continue
        return place
    return None


def _is_there(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except PermissionError:
        return False
