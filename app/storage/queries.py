"""How rows are read: queries that several methods share, rows as values, cursors of pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, RowMapping, Select, Table, exists, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.records import Json, Thread
from app.storage.tables import steps, threads, users
from app.storage.texts import folded, storable

_LONGEST_SEARCH: Final = 2000


async def all_rows(connection: AsyncConnection, query: Select[Any]) -> Sequence[RowMapping]:
    """All that the query finds, by column names."""
    rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
    return rows


async def first_row(connection: AsyncConnection, query: Select[Any]) -> RowMapping | None:
    """The first that the query finds, by column names."""
    row: RowMapping | None = (await connection.execute(query)).mappings().first()
    return row


def owned_threads() -> Select[Any]:
    """Threads with their owners' identifiers, for `thread_of`."""
    columns = [column for column in threads.c if column.name != "moved_from"]
    return select(*columns, users.c.identifier.label("visitor")).join(users, threads.c.user_id == users.c.id)


def may_write(user_id: str | BindParameter[str]) -> ColumnElement[bool]:
    """Whether a thread is written by that visitor: its own, or one that was until it was taken along to another."""
    return or_(threads.c.user_id == user_id, threads.c.moved_from == user_id)


def written_by(user_id: str, thread_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether the thread of that id is written by that visitor."""
    return exists().where(threads.c.id == thread_id, may_write(user_id))


def thread_of(row: RowMapping) -> Thread:
    """A row of `owned_threads`."""
    return Thread(**{**row, "tags": row["tags"] or []})


def fields_of(row: RowMapping) -> Json:
    """A row of steps or elements without what only orders it."""
    return {name: value for name, value in row.items() if name != "position"}


def says(search: str, dialect: str) -> ColumnElement[bool]:
    """Whether a thread's name or something said in it contains `search`, whatever the case.

    Args:
        search: of any length; what is beyond 2,000 characters is not looked at.
        dialect: SQLAlchemy's name of the database's kind.
    """
    part: Any = folded(storable(search)[:_LONGEST_SEARCH])
    place = func.instr
    if dialect == "postgresql":
        part, place = func.folded(part), func.strpos
    said = place(func.folded(steps.c.output), part) > 0
    named = place(func.folded(threads.c.name), part) > 0
    # Not EXISTS: PostgreSQL would look through what all visitors said, instead of through one thread after another.
    first = select(steps.c.id).where(steps.c.thread_id == threads.c.id, said).limit(1).scalar_subquery()
    return or_(named, first.is_not(None))


async def insert_new(connection: AsyncConnection, table: Table, key: str, values: Json) -> bool:
    """Insert a row, unless there is one with the same `key`, which may have come from another process just now.

    Returns:
        Whether it was inserted.
    """
    return bool((await connection.execute(_insert_new(connection.dialect.name, table, key), values)).rowcount)


@cache
def _insert_new(dialect: str, table: Table, key: str) -> sqlite.Insert | postgresql.Insert:
    """Made once: SQLAlchemy takes longer to make a statement than SQLite to execute it."""
    return _insert(dialect, table).on_conflict_do_nothing(index_elements=[key])


def upsert(connection: AsyncConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT of the database's own kind, which can say what happens on a conflict."""
    return _insert(connection.dialect.name, table)


def _insert(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def to_cursor(row: RowMapping) -> str:
    """Where a page of threads ended."""
    return base64.urlsafe_b64encode(json.dumps([row["updated_at"], row["id"]]).encode()).decode()


def from_cursor(cursor: str) -> tuple[str, str]:
    """When the last thread of a page was used, and its id.

    Raises:
        ValueError: the cursor is not one that `to_cursor` made.
    """
    try:
        at, known = json.loads(base64.urlsafe_b64decode(cursor))
        return str(at), str(known)
    except (TypeError, ValueError):
        raise ValueError("that is not a cursor of ours") from None
