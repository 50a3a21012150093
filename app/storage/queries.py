"""How rows are read: queries that several methods share, rows as values, cursors of pages."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.records import Json, Thread
from app.storage.tables import steps, threads, users
from app.storage.texts import folded, storable

# SQLite refuses patterns of more than 50,000 bytes: https://www.sqlite.org/limits.html
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
    return select(threads, users.c.identifier.label("visitor")).join(users, threads.c.user_id == users.c.id)


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
    fold = func.folded if dialect == "sqlite" else func.lower
    part = folded(storable(search)[:_LONGEST_SEARCH])
    said = fold(steps.c.output).contains(part, autoescape=True)
    named = fold(threads.c.name).contains(part, autoescape=True)
    return or_(named, select(steps.c.id).where(steps.c.thread_id == threads.c.id, said).exists())


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
