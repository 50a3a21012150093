"""Visitors and what they have set."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.storage.database import Database, now, storable
from app.storage.tables import users


@dataclass(frozen=True, slots=True)
class Visitor:
    """A row of `users`."""

    id: str
    identifier: str
    metadata: dict[str, Any]
    created_at: str


class Visitors:
    """The table of visitors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, identifier: str) -> Visitor | None:
        """The visitor of that name, or None."""
        async with self._database.read() as connection:
            row = (await connection.execute(select(users).where(users.c.identifier == identifier))).mappings().first()
        return Visitor(row["id"], row["identifier"], row["metadata"], row["created_at"]) if row else None

    async def add(self, identifier: str, metadata: Mapping[str, Any]) -> Visitor:
        """The visitor of that name, made if there is none; safe to call twice at once."""
        async with self._database.write() as connection:
            make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            await connection.execute(
                make(users)
                .values(
                    id=str(uuid.uuid4()), identifier=identifier, metadata=storable(dict(metadata)), created_at=now()
                )
                .on_conflict_do_nothing()
            )
        found = await self.get(identifier)
        if found is None:
            raise LookupError("a visitor that was just stored is not there")
        return found

    async def preferences(self, identifier: str) -> dict[str, Any]:
        """What the visitor has set; empty if nothing."""
        visitor = await self.get(identifier)
        return dict(visitor.metadata.get("preferences") or {}) if visitor else {}

    async def save_preferences(self, identifier: str, preferences: Mapping[str, Any]) -> None:
        """Keep what the visitor has set."""
        visitor = await self.add(identifier, {})
        metadata = visitor.metadata | {"preferences": storable(dict(preferences))}
        async with self._database.write() as connection:
            await connection.execute(update(users).where(users.c.id == visitor.id).values(metadata=metadata))
