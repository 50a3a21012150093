"""Personal links, and the browsers that show another visitor's history by one."""

from __future__ import annotations

from sqlalchemy import select

from app.storage.database import Database
from app.storage.tables import devices, users


class Devices:
    """The tables of links and of browsers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def owner_of(self, identifier: str) -> str | None:
        """Whose history a browser shows: the owner's identifier; None: its own."""
        query = select(users.c.identifier).join(devices, devices.c.user_id == users.c.id)
        async with self._database.read() as connection:
            return (await connection.execute(query.where(devices.c.identifier == identifier))).scalar()
