"""Deleting conversations by the many, in transactions that are short: somebody else is being answered meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, insert, select, update

from app.storage.database import Database
from app.storage.tables import deleted_threads, devices, links, threads, users
from app.storage.texts import now

# The longest time that a transaction goes on to delete, and the pause for others after it; in seconds.
_LONGEST: Final = 0.01
_PAUSE: Final = 0.02
_LISTED: Final = 500


async def delete_threads(
    database: Database, thread_ids: Sequence[str], *, for_ever: bool, unused_since: str | None = None
) -> int:
    """Delete threads with all that belongs to them.

    Args:
        database: where.
        thread_ids: which, in this order.
        for_ever: what comes late for them is refused, as when the visitor deletes one.
        unused_since: those that were used since then stay.

    Returns:
        How many were deleted. If the database goes away on the way, those before are gone, and DatabaseAway is raised.
    """
    deleted, at = 0, 0
    while at < len(thread_ids):
        async with database.write() as connection:
            until = time.monotonic() + _LONGEST
            while at < len(thread_ids) and time.monotonic() < until:
                gone = delete(threads).where(threads.c.id == thread_ids[at])
                if unused_since is not None:
                    gone = gone.where(threads.c.updated_at < unused_since)
                if (await connection.execute(gone)).rowcount:
                    deleted += 1
                    if for_ever:
                        late = {"id": thread_ids[at], "deleted_at": now()}
                        await connection.execute(insert(deleted_threads).values(late))
                at += 1
        await asyncio.sleep(_PAUSE)
    return deleted


async def erase(database: Database, user_id: str) -> int:
    """Delete all that is kept of a visitor: conversations with their feedback, settings, links, joined browsers. What
    is left is who the visitor is, and an account if there is one.

    Returns:
        How many conversations there were. If the database goes away on the way, those before are gone, DatabaseAway is
        raised, and it can be asked for again.
    """
    listed = select(threads.c.id).where(threads.c.user_id == user_id).limit(_LISTED)
    deleted = 0
    while True:
        async with database.read() as connection:
            ids = (await connection.execute(listed)).scalars().all()
        if not ids:
            break
        deleted += await delete_threads(database, ids, for_ever=True)
    async with database.write() as connection:
        for table in (links, devices):
            await connection.execute(delete(table).where(table.c.user_id == user_id))
        await connection.execute(update(users).where(users.c.id == user_id).values(metadata={}))
    return deleted
