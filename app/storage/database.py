"""The connection to the database: opening it, reading, and writing one transaction at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.storage.tables import SCHEMA_VERSION, metadata, schema_version
from app.storage.texts import folded

_FILE: Final = "chat.db"
# How long SQLite waits for a lock that another process holds.
_BUSY_SECONDS: Final = 5
_WRITES: Final = "writes"


class Database:
    """A database by its SQLAlchemy URL, e.g. `sqlite+aiosqlite:///data/chat.db`."""

    def __init__(self, url: str) -> None:
        # Parameters are what people wrote to each other: they stay out of errors, which are logged.
        self._engine: AsyncEngine = create_async_engine(url, hide_parameters=True)
        self._writing = asyncio.Lock()
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self._engine.sync_engine, "begin", _begin_sqlite)

    @classmethod
    def in_folder(cls, folder: Path) -> Database:
        """SQLite in a folder, which must exist when the database is opened."""
        return cls(f"sqlite+aiosqlite:///{(folder / _FILE).absolute()}")

    async def open(self) -> None:
        """Make the tables that are not there yet.

        Raises:
            OSError: the file cannot be made.
            sqlalchemy.exc.DatabaseError: it is there and is no database, or cannot be written.
        """
        if self._engine.dialect.name == "sqlite" and self._engine.url.database:
            _make_private(self._engine.url.database)
        async with self.write() as connection:
            await connection.run_sync(metadata.create_all)
            if (await connection.execute(select(schema_version))).first() is None:
                await connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with; all that is read through it is of one moment."""
        async with self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end; on an error nothing of it is kept.

        One at a time in this process: SQLite has one writer, and would refuse the second after its busy time.
        """
        async with self._writing, self._engine.connect() as connection:
            await connection.execution_options(**{_WRITES: True})
            async with connection.begin():
                yield connection


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Python's driver would begin a transaction at its first INSERT only, see _begin_sqlite:
    # https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#pysqlite-serializable
    connection.isolation_level = None
    connection.create_function("folded", 1, folded, deterministic=True)
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout={1000 * _BUSY_SECONDS}",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and asks for the write lock later is refused at once, whatever the busy timeout,
    # when another process has written in between: https://www.sqlite.org/lang_transaction.html
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_private(file: str) -> None:
    # SQLite gives the files beside it (-wal, -shm) the rights of the database.
    Path(file).touch(mode=0o600)
