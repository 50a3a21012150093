"""Where conversations are kept: whether it opens, is up to date, takes writes, and how large it is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.assembly.database import is_missing
from app.command_line import in_one_line, opened
from app.doctor.check import Finding, Patient
from app.machine import MIB
from app.settings import Settings
from app.storage.database import FILE, Database
from app.storage.migrate import revision
from app.storage.problems import DatabaseAway, DatabaseRefused
from app.storage.room import taken
from app.storage.tables import REVISION

_NAME = "database"


class _NotKept(Exception):
    """Ends a transaction of which nothing is to stay."""


async def database(patient: Patient) -> Sequence[Finding]:
    """The database of the settings. Nothing in it is changed, not even brought up to date."""
    settings = patient.settings
    if not settings.uses_database:
        return [Finding(_NAME, "ok", "none: HISTORY is off")]
    if settings.database_url is None and (found := await asyncio.to_thread(_file, settings)) is not None:
        return [found]
    try:
        return [await _looked_at(settings)]
    except (DatabaseAway, DatabaseRefused, SQLAlchemyError, OSError) as problem:
        advice = "check DATABASE_URL, and whether PostgreSQL runs and lets this machine in"
        if settings.database_url is None:
            advice = f"free some room, or move {settings.data_dir / FILE} away and restore a backup"
        what = "PostgreSQL" if settings.database_url is not None else str(settings.data_dir / FILE)
        return [Finding(_NAME, "problem", f"{what}: {in_one_line(problem)}", advice)]


def _file(settings: Settings) -> Finding | None:
    """What can be said of SQLite's file without opening it; None: it can be opened."""
    file = settings.data_dir / FILE
    try:
        if is_missing(settings):
            return Finding(_NAME, "ok", f"none yet: {file} is made at the first start")
        if os.access(file, os.R_OK | os.W_OK):
            return None
    except PermissionError:
        pass  # the folder is another user's
    told = f"{file} cannot be read and written by this user"
    return Finding(_NAME, "warning", told, "run this as the server's user; the server itself needs both")


async def _looked_at(settings: Settings) -> Finding:
    url = settings.database_url
    file = (settings.data_dir / FILE).absolute()
    found = await revision(url.get_secret_value() if url else f"sqlite+aiosqlite:///{file}")
    what = "PostgreSQL" if url else str(settings.data_dir / FILE)
    if found is None:
        return Finding(_NAME, "ok", f"{what} has no tables yet; they are made at the first start")
    if found != REVISION:
        # An older one is a number below ours; what is not even that comes from a newer version.
        if found < REVISION:
            return Finding(_NAME, "warning", f"{what} has tables of {found}", f"the next start makes them {REVISION}")
        advice = f"its tables ({found}) are of a newer version, this one knows {REVISION}: update the program"
        return Finding(_NAME, "problem", what, advice)
    async with opened(settings) as database:
        with suppress(_NotKept):
            await _try_to_write(database)
        size = await taken(database) // MIB
    most = settings.history_max_mb
    told = f"{what} opens, is up to date and takes writes; {size:,} MiB"
    if most and size >= most:
        return Finding(_NAME, "ok", told, f"HISTORY_MAX_MB={most} is reached: what is unused longest is deleted")
    return Finding(_NAME, "ok", told)


async def _try_to_write(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
        raise _NotKept
