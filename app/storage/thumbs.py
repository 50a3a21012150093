"""All that visitors have given a thumb, one after another."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from sqlalchemy import and_, or_, select

from app.storage.database import Database
from app.storage.queries import all_rows, fields_of
from app.storage.records import Step, Thumb
from app.storage.tables import feedback, steps

_AT_ONCE: Final = 100


async def thumbs_with_steps(database: Database, since: str = "") -> AsyncGenerator[tuple[Thumb, tuple[Step, ...]]]:
    """Each thumb with the steps of its conversation up to the one that it was given to; the oldest thumb first.

    One conversation is in memory at a time, and no transaction lasts: the chat may go on meanwhile.

    Args:
        database: where.
        since: only thumbs that were given at that time or later; ISO 8601 in UTC, as `now()` makes it.
    """
    after = (since, "")
    while True:
        later = or_(
            feedback.c.created_at > after[0],
            and_(feedback.c.created_at == after[0], feedback.c.id > after[1]),
        )
        query = (
            select(feedback, steps.c.position)
            .join(steps, steps.c.id == feedback.c.step_id)
            .where(later)
            .order_by(feedback.c.created_at, feedback.c.id)
            .limit(_AT_ONCE)
        )
        async with database.read() as connection:
            given = await all_rows(connection, query)
        if not given:
            return
        for row in given:
            said = select(steps).where(steps.c.thread_id == row["thread_id"], steps.c.position <= row["position"])
            async with database.read() as connection:
                found = await all_rows(connection, said.order_by(steps.c.position))
            thumb = Thumb(row["id"], row["step_id"], row["value"], row["comment"], row["created_at"])
            yield thumb, tuple(Step(**fields_of(step)) for step in found)
        after = (given[-1]["created_at"], given[-1]["id"])
