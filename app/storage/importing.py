"""Whole conversations that come from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.database import Database
from app.storage.records import ORIGIN, Conversation
from app.storage.tables import elements, feedback, steps, threads, users
from app.storage.texts import storable


async def origins_of(database: Database, user_id: str) -> set[str]:
    """The ids that a visitor's conversations have, here and where they come from."""
    query = select(threads.c.id, threads.c.metadata[ORIGIN].as_string()).where(threads.c.user_id == user_id)
    async with database.read() as connection:
        return {one for row in (await connection.execute(query)).all() for one in row if one is not None}


async def add_conversations(database: Database, user_id: str, conversations: Sequence[Conversation]) -> int:
    """Add whole conversations with new ids, in one transaction; those that the visitor has are left out.

    A visitor has a conversation if it is where the other says that it comes from, or comes from there as well.

    Args:
        database: where.
        user_id: whose they become.
        conversations: each with the id that it had elsewhere in its metadata.

    Returns:
        How many were added.

    Raises:
        LookupError: there is no such visitor.
    """
    origins = {str(conversation.thread.metadata[ORIGIN]) for conversation in conversations}
    origin = threads.c.metadata[ORIGIN].as_string()
    async with database.write() as connection:
        # Two imports at once would not see each other's.
        visitor = select(users.c.id).where(users.c.id == user_id).with_for_update()
        if (await connection.execute(visitor)).first() is None:
            raise LookupError("the visitor is not there")
        query = select(threads.c.id, origin).where(
            threads.c.user_id == user_id, or_(threads.c.id.in_(origins), origin.in_(origins))
        )
        known = {one for row in (await connection.execute(query)).all() for one in row}
        added = 0
        for conversation in conversations:
            name = conversation.thread.metadata[ORIGIN]
            if name not in known:
                known.add(name)
                added += 1
                await _insert_whole(connection, conversation, user_id)
    return added


async def _insert_whole(connection: AsyncConnection, conversation: Conversation, user_id: str) -> None:
    thread = asdict(conversation.thread) | {"user_id": user_id}
    del thread["visitor"]
    thumbs = [asdict(thumb) | {"thread_id": thread["id"]} for thumb in conversation.thumbs.values()]
    for table, rows in (
        (threads, [thread]),
        (steps, [asdict(step) for step in conversation.steps]),
        (elements, [asdict(element) for element in conversation.elements]),
        (feedback, thumbs),
    ):
        if rows:
            await connection.execute(insert(table), storable(rows))
