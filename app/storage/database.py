"""The connection to the database: opening it, reading, and writing one transaction at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.connect import ALONE, WRITES, make_engine, make_private
from app.storage.migrate import migrate
from app.storage.problems import DatabaseAway, DatabaseRefused, is_away, is_read_only, reason
from app.storage.texts import now

FILE: Final = "chat.db"


class Database:
    """A database by its SQLAlchemy URL: `sqlite+aiosqlite:///data/chat.db`, `postgresql+asyncpg://user@host/name`.

    One that is away when it is opened is opened by the first use that finds it back.

    Attributes:
        on_away: told whenever it cannot be reached, or takes no writes.
        away_since: since when that is so, ISO 8601; None: it answers, or was never asked.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._engine = make_engine(url)
        self._kind = self._engine.dialect.name
        self._writing = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._open = False
        # The last try to reach it that failed.
        self._failed_at = 0.0
        self._failure = ""
        self._asked_at: float | None = None
        self.on_away: Callable[[], None] = lambda: None
        self.away_since: str | None = None

    @classmethod
    def in_folder(cls, folder: Path) -> Database:
        """SQLite in a folder, which must exist when the database is opened."""
        return cls(f"sqlite+aiosqlite:///{(folder / FILE).absolute()}")

    async def open(self) -> None:
        """Bring the tables up to date, unless that is done.

        Raises:
            OSError: SQLite's file cannot be made.
            DatabaseAway: it is out of reach, or takes no writes now.
            DatabaseRefused: it answers and is of no use: no database, a wrong password, tables of a newer version.
        """
        asked = time.monotonic()
        async with self._opening:
            if self._open:
                return
            self._fail_with_the_one_before(asked)
            if self._kind == "sqlite" and self._engine.url.database:
                make_private(self._engine.url.database)
            try:
                await migrate(self._url)
            except (SQLAlchemyError, OSError) as problem:
                if is_away(problem):
                    raise self._away(problem) from None
                self._note_away()
                raise DatabaseRefused(reason(problem)) from None
            self._open = True
            self._answered()

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with; all that is read through it is of one moment.

        Raises:
            DatabaseAway: it is out of reach.
        """
        async with self._connected() as connection:
            if self._kind == "postgresql":
                await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end; on an error nothing of it is kept.

        One at a time in this process: what is written keeps the order in which it came, and SQLite, which has one
        writer, would refuse the second after its busy time.

        Raises:
            DatabaseAway: it is out of reach, or takes no writes.
        """
        asked = time.monotonic()
        async with self._writing:
            self._fail_with_the_one_before(asked)
            async with self._connected() as connection:
                await connection.execution_options(**{WRITES: True})
                async with connection.begin():
                    yield connection

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[AsyncConnection]:
        """A connection of SQLite for what cannot be done in a transaction, such as VACUUM; nobody in this process
        writes meanwhile.

        Raises:
            DatabaseAway: it is out of reach.
        """
        async with self._writing, self._connected() as connection:
            await connection.execution_options(**{ALONE: True})
            yield connection

    @asynccontextmanager
    async def first_of_replicas(self, lock: int) -> AsyncIterator[bool]:
        """Whether no other replica on this PostgreSQL is at the same work; none begins it until the context is left.

        SQLite has one process, so that is always so.

        Args:
            lock: names the work.

        Raises:
            DatabaseAway: it is out of reach.
        """
        async with self._connected() as connection:
            if self._kind != "postgresql":
                await connection.close()
                yield True
                return
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            ours = bool((await connection.execute(select(func.pg_try_advisory_lock(lock)))).scalar())
            try:
                yield ours
            finally:
                if ours:
                    await connection.execute(select(func.pg_advisory_unlock(lock)))

    @property
    def age(self) -> float | None:
        """Seconds since it was last known whether it answers; None: it never was."""
        return None if self._asked_at is None else time.monotonic() - self._asked_at

    @property
    def kind(self) -> str:
        """SQLAlchemy's name of it: sqlite or postgresql."""
        return self._kind

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        if not self._open:
            await self.open()
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self._engine.connect())
            except (SQLAlchemyError, OSError) as problem:
                if is_away(problem):
                    raise self._away(problem) from None
                raise
            try:
                yield connection
                self._answered()
            except (SQLAlchemyError, OSError) as problem:
                if is_away(problem):
                    self._note_away()
                    if is_read_only(problem):
                        await connection.invalidate()
                    raise DatabaseAway(reason(problem)) from None
                raise

    def _answered(self) -> None:
        self._asked_at = time.monotonic()
        self.away_since = None

    def _note_away(self) -> None:
        self._asked_at = time.monotonic()
        self.away_since = self.away_since or now()
        self.on_away()

    def _away(self, problem: Exception) -> DatabaseAway:
        self._note_away()
        self._failed_at, self._failure = time.monotonic(), reason(problem)
        return DatabaseAway(self._failure)

    def _fail_with_the_one_before(self, asked: float) -> None:
        """Who stood in a line while it could not be reached does not try again: each try may take seconds."""
        if self._failed_at > asked:
            raise DatabaseAway(self._failure)
