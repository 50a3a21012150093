"""Visitors and what they have set."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.database import Database
from app.storage.queries import first_row, insert_new
from app.storage.records import Visitor
from app.storage.tables import users
from app.storage.texts import now, storable

_PREFERENCES: Final = "preferences"


class Visitors:
    """The table of visitors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, identifier: str) -> Visitor | None:
        """The visitor of that name, or None."""
        async with self._database.read() as connection:
            return await _find(connection, identifier)

    async def add(self, identifier: str, metadata: Mapping[str, Any]) -> Visitor:
        """The visitor of that name, made if there is none; `metadata` is merged into what is there."""
        async with self._database.write() as connection:
            return await _merge(connection, identifier, metadata)

    async def preferences(self, identifier: str) -> dict[str, Any]:
        """What the visitor has set; empty if nothing."""
        visitor = await self.get(identifier)
        return dict(visitor.metadata.get(_PREFERENCES) or {}) if visitor else {}

    async def save_preferences(self, identifier: str, preferences: Mapping[str, Any]) -> None:
        """Keep what the visitor has set, in place of what was set before."""
        async with self._database.write() as connection:
            await _merge(connection, identifier, {_PREFERENCES: dict(preferences)})


async def _find(connection: AsyncConnection, identifier: str, *, to_change: bool = False) -> Visitor | None:
    query = select(users).where(users.c.identifier == identifier)
    row = await first_row(connection, query.with_for_update() if to_change else query)
    return Visitor(**row) if row else None


async def _merge(connection: AsyncConnection, identifier: str, metadata: Mapping[str, Any]) -> Visitor:
    added = storable(dict(metadata))
    known = await _find(connection, identifier, to_change=True)
    if known is None:
        visitor = Visitor(str(uuid.uuid4()), identifier, added, now())
        if await insert_new(connection, users, "identifier", asdict(visitor)):
            return visitor
        known = await _find(connection, identifier, to_change=True)
        if known is None:
            raise LookupError("the visitor was deleted just now")
    merged = known.metadata | added
    if merged != known.metadata:
        await connection.execute(update(users).where(users.c.id == known.id).values(metadata=merged))
    return replace(known, metadata=merged)
