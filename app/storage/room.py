"""How much room the conversations take in the database, and giving back what they took."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Integer, LargeBinary, Select, Table, cast, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.database import Database
from app.storage.tables import elements, feedback, metadata, request_logs, steps, threads

log = logging.getLogger(__name__)

# What a row takes besides its texts, for its ids and times, its header, its places in the indexes.
_ROW: Final = 500
_TEXTS: Final = {
    threads: ("name", "metadata", "tags"),
    steps: ("name", "input", "output", "metadata", "display"),
    elements: ("content",),
    feedback: ("comment",),
}
_LOGGED: Final = ("input_text", "output_text")
# SQLite: free pages that are left for what comes next, how many are given back at once, and the pause between.
_KEPT_FREE: Final = 1_000
_AT_ONCE: Final = 50
_PAUSE: Final = 0.03
# A file of before, which gives nothing back, is made anew while that takes a second or so.
_QUICKLY_ANEW: Final = 100 * 1024 * 1024
_GIVES_BACK: Final = 2  # auto_vacuum=INCREMENTAL


async def taken(database: Database) -> int:
    """What the database takes, in bytes.

    SQLite: its pages in use, without those that deleted rows have left free. PostgreSQL: the files of its tables, which
    seldom become smaller; where that is too much, see `rows_take`.
    """
    async with database.read() as connection:
        if database.kind == "sqlite":
            size = await _pragma(connection, "page_size")
            return size * (await _pragma(connection, "page_count") - await _pragma(connection, "freelist_count"))
        files = [func.pg_total_relation_size(table.name, type_=Integer) for table in metadata.sorted_tables]
        return int((await connection.execute(select(sum(files[1:], files[0])))).scalar() or 0)


async def rows_take(connection: AsyncConnection, thread_ids: Sequence[str] | Select[tuple[str]] | None = None) -> int:
    """About what the rows of conversations take, in bytes: it becomes less when some are deleted. To find it out for
    all, every row is read, though on PostgreSQL no long text.

    Args:
        connection: to read with.
        thread_ids: of these conversations, or of those that a query finds; None: of all.
    """
    size_of = _kept_size if connection.dialect.name == "postgresql" else _bytes
    whole = 0
    for table, columns in _TEXTS.items():
        query = select(func.sum(_row_takes(table, columns, size_of)))
        if thread_ids is not None:
            query = query.where((table.c.id if table is threads else table.c.thread_id).in_(thread_ids))
        whole += int((await connection.execute(query)).scalar() or 0)
    return whole


async def log_takes(database: Database, positions: Collection[int] | None = None) -> int:
    """About what rows of the log of requests take, in bytes; `positions`: of these; None: of all."""
    async with database.read() as connection:
        size_of = _kept_size if connection.dialect.name == "postgresql" else _bytes
        query = select(func.sum(_row_takes(request_logs, _LOGGED, size_of)))
        if positions is not None:
            query = query.where(request_logs.c.position.in_(positions))
        return int((await connection.execute(query)).scalar() or 0)


async def visitors_take(database: Database, user_id: str) -> int:
    """About what one visitor's conversations take, in bytes."""
    async with database.read() as connection:
        return await rows_take(connection, select(threads.c.id).where(threads.c.user_id == user_id))


def _row_takes(
    table: Table, columns: Sequence[str], size_of: Callable[[Column[Any]], ColumnElement[int]]
) -> ColumnElement[int]:
    size: ColumnElement[int] = literal(_ROW)
    for name in columns:
        size = size + func.coalesce(size_of(table.c[name]), 0)
    return size


def _kept_size(column: Column[Any]) -> ColumnElement[int]:
    # Of a long text the size alone is read: it stands in the row, the text elsewhere.
    return func.pg_column_size(column, type_=Integer)


def _bytes(column: Column[Any]) -> ColumnElement[int]:
    return func.length(cast(column, LargeBinary), type_=Integer)


async def give_back(database: Database) -> None:
    """Make SQLite's file smaller by what deleted rows have left, a little at a time: others write in between.

    PostgreSQL's autovacuum does that by itself, for itself.
    """
    if database.kind != "sqlite":
        return
    async with database.read() as connection:
        gives_back = await _pragma(connection, "auto_vacuum") == _GIVES_BACK
    if not gives_back:
        await _make_anew(database)
        return
    while True:
        async with database.alone() as connection:
            if await _pragma(connection, "freelist_count") <= _KEPT_FREE:
                return
            driver = (await connection.get_raw_connection()).driver_connection
            if driver is None:
                return
            # It gives one page for each step; only a script is stepped through to its end where there are no rows.
            await driver.executescript(f"PRAGMA incremental_vacuum({_AT_ONCE})")
        await asyncio.sleep(_PAUSE)


async def _make_anew(database: Database) -> None:
    """A file that was made before it could give back becomes one that can. Nobody else can write meanwhile, so a large
    one stays as it is: its free pages are used again, it only does not become smaller."""
    if await taken(database) > _QUICKLY_ANEW:
        log.info("STORE the database's file keeps its size; to have it smaller, stop the server and run VACUUM on it")
        return
    async with database.alone() as connection:
        await connection.exec_driver_sql("VACUUM")


async def _pragma(connection: AsyncConnection, name: str) -> int:
    return int((await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() or 0)
