"""Whether the clock is right: cookies, sign-ins and conversations go by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.command_line import opened
from app.doctor.check import Finding, Patient
from app.settings import ROOT, Settings
from app.storage.problems import DatabaseAway, DatabaseRefused

_SECONDS: Final = 3
# A clock may differ from another one by this much.
_APART: Final = timedelta(seconds=30)
# Nothing here was written later than now, but for files from another time zone.
_DAY: Final = timedelta(days=1)
_LATEST: Final = datetime(2100, 1, 1, tzinfo=UTC)
_ADVICE: Final = "timedatectl set-ntp true, or the like; in a container the machine's own clock counts"


async def clock(patient: Patient) -> Sequence[Finding]:
    """The date, and how far it is from that of others who answer anyway."""
    now = datetime.now(UTC)
    written = datetime.fromtimestamp((ROOT / "app" / "__init__.py").stat().st_mtime, UTC)
    told = now.isoformat(" ", "seconds").replace("+00:00", " UTC")
    if now < written - _DAY or now > _LATEST:
        return [Finding("clock", "problem", f"it is {told}, says this machine", _ADVICE)]
    asked: dict[str, Awaitable[timedelta | None]] = {"Ollama": _ahead_of_ollama(patient.settings)}
    if patient.settings.uses_database and patient.settings.database_url is not None:
        asked["PostgreSQL"] = _ahead_of_database(patient.settings)
    ahead = dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))
    for other, difference in ahead.items():
        if difference is not None and abs(difference) > _APART:
            apart = f"{abs(difference).total_seconds():.0f} s {'ahead of' if difference > timedelta() else 'behind'}"
            return [Finding("clock", "warning", f"{told}, {apart} {other}'s", _ADVICE)]
    same = [other for other, difference in ahead.items() if difference is not None]
    return [Finding("clock", "ok", f"{told}{', as ' + ' and '.join(same) + ' has it' if same else ''}")]


async def _ahead_of_ollama(settings: Settings) -> timedelta | None:
    """How far our clock is ahead of the Date that Ollama's answer tells; None: it tells none."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=_SECONDS) as client:
            answer = await client.get(f"{settings.ollama_host}/api/version")
        return datetime.now(UTC) - parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError, TypeError):
        return None


async def _ahead_of_database(settings: Settings) -> timedelta | None:
    try:
        async with opened(settings) as database, database.read() as connection:
            there = (await connection.execute(select(func.now()))).scalar_one()
            return datetime.now(UTC) - there if isinstance(there, datetime) else None
    except (DatabaseAway, DatabaseRefused, SQLAlchemyError, OSError):
        return None  # the check of the database tells
