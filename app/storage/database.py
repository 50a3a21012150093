"""The connection to the database: opening it, reading, and writing one transaction at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import event, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.storage.tables import SCHEMA_VERSION, metadata, schema_version

_FILE: Final = "chat.db"
# How long SQLite waits for a lock that another process holds.
_BUSY_SECONDS: Final = 5


class Database:
    """A database by its SQLAlchemy URL, e.g. `sqlite+aiosqlite:///data/chat.db`."""

    def __init__(self, url: str) -> None:
        self._engine: AsyncEngine = create_async_engine(url)
        self._writing = asyncio.Lock()
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)

    @classmethod
    def in_folder(cls, folder: Path) -> Database:
        """SQLite in a folder, which must exist."""
        return cls(f"sqlite+aiosqlite:///{(folder / _FILE).absolute()}")

    async def open(self) -> None:
        """Make the tables that are not there yet."""
        async with self._engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            if (await connection.execute(select(schema_version))).first() is None:
                await connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with."""
        async with self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end; on an error nothing of it is kept.

        One at a time in this process: SQLite has one writer, and would refuse the second after its busy time.
        """
        async with self._writing, self._engine.begin() as connection:
            yield connection


def _prepare_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        f"busy_timeout={1000 * _BUSY_SECONDS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def now() -> str:
    """This moment, in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat()


def storable(value: Any) -> Any:
    """`value` with what no database takes left out of its texts: NUL goes, a lone surrogate becomes U+FFFD."""
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value
