"""How connections are made: SQLite's pragmas and locks, PostgreSQL's pool and times."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, ExceptionContext, NullPool, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.storage.texts import folded

# An execution option: what follows writes.
WRITES: Final = "writes"
# An execution option: there is no transaction around what follows.
ALONE: Final = "alone"
# How long SQLite waits for a lock that another process holds; migrations of a large database may hold it long.
_BUSY_SECONDS: Final = 5
_MIGRATION_BUSY_SECONDS: Final = 60
_WAL_PAUSE: Final = 0.02
# How long PostgreSQL has to accept a connection, and to answer.
_CONNECT_SECONDS: Final = 5
_ANSWER_SECONDS: Final = 30


def make_engine(url: str, *, migrating: bool = False) -> AsyncEngine:
    """The engine of a database.

    Args:
        url: SQLAlchemy's, for aiosqlite or asyncpg.
        migrating: for migrations: one connection, which waits long. SQLite's foreign keys are off, or a table that is
            made anew under its old name would take along all that refers to it:
            https://www.sqlite.org/lang_altertable.html#otheralter
    """
    # Parameters are what people wrote to each other: they stay out of errors, which are logged.
    options: dict[str, Any] = {"hide_parameters": True}
    if migrating:
        options["poolclass"] = NullPool
    if url.startswith("postgresql"):
        options["connect_args"] = {
            "timeout": _CONNECT_SECONDS,
            "command_timeout": None if migrating else _ANSWER_SECONDS,
            "server_settings": {"application_name": "chainlit-ollama"},
        }
        # A connection that did not survive a restart of the server is found out before it is used.
        engine = create_async_engine(url, pool_pre_ping=not migrating, **options)
        event.listen(engine.sync_engine, "handle_error", _leave_out_values)
        return engine
    engine = create_async_engine(url, **options)
    busy = _MIGRATION_BUSY_SECONDS if migrating else _BUSY_SECONDS
    pragmas = (
        # Of a file that is made now; another one takes it over with its next VACUUM.
        "auto_vacuum=INCREMENTAL",
        # What a visitor deletes is gone from the file too, however SQLite was built.
        "secure_delete=ON",
        f"busy_timeout={1000 * busy}",
        "synchronous=NORMAL",
        f"foreign_keys={'OFF' if migrating else 'ON'}",
    )

    def prepare(connection: Any, _: object) -> None:
        try:
            _prepare_sqlite(connection, pragmas)
        except BaseException:
            # SQLAlchemy would leave it open. All connections of a process share what SQLite knows of the file: while
            # there is one from when it was read-only, it is so for all.
            connection.close()
            raise

    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def make_private(file: str) -> None:
    """Make SQLite's file for its owner alone, if it is not there; those beside it (-wal, -shm) get its rights.

    Raises:
        OSError: it cannot be made.
    """
    Path(file).touch(mode=0o600)


def _prepare_sqlite(connection: Any, pragmas: tuple[str, ...]) -> None:
    # Python's driver would begin a transaction at its first INSERT only, see _begin_sqlite:
    # https://docs.sqlalchemy.org/en/21/dialects/sqlite.html#pysqlite-serializable
    connection.isolation_level = None
    connection.create_function("folded", 1, folded, deterministic=True)
    with closing(connection.cursor()) as cursor:
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        _use_wal(cursor)


def _use_wal(cursor: Any) -> None:
    """The journal mode, which the file keeps: https://www.sqlite.org/wal.html"""
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as problem:
            # Of two that change it at once, one is refused, whatever the busy timeout.
            if problem.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_WAL_PAUSE)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and asks for the write lock later is refused at once, whatever the busy timeout,
    # when another process has written in between: https://www.sqlite.org/lang_transaction.html
    options = connection.get_execution_options()
    if not options.get(ALONE, False):
        connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(WRITES, False) else "BEGIN")


def _leave_out_values(context: ExceptionContext) -> None:
    # PostgreSQL sends the row that it refuses along, and a traceback would show it: "Failing row contains (...)".
    driver_says = context.original_exception.__cause__
    if hasattr(driver_says, "detail"):
        setattr(driver_says, "detail", None)  # noqa: B010 - the driver has no types
