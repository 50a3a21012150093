"""Conversations: threads with their steps, elements and feedback."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any, Final

from sqlalchemy import Select, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.database import Database
from app.storage.queries import (
    all_rows,
    fields_of,
    first_row,
    from_cursor,
    insert_new,
    may_write,
    owned_threads,
    says,
    thread_of,
    to_cursor,
    upsert,
    written_by,
)
from app.storage.records import Conversation, Element, Json, Step, ThreadDeleted, ThreadPage, Thumb
from app.storage.tables import deleted_threads, elements, feedback, steps, threads, users
from app.storage.texts import now, storable

_NAME_LENGTH: Final = 80
_LONGEST_PAGE: Final = 100
# Made once: SQLAlchemy takes longer to make a statement than SQLite to execute it.
_USED: Final = (
    update(threads)
    .where(threads.c.id == bindparam("thread"), may_write(bindparam("user")))
    .values(updated_at=bindparam("at"))
)


def thread_name(text: str) -> str:
    """A thread's title: its first message's beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _NAME_LENGTH else line[: _NAME_LENGTH - 1].rstrip() + "…"


class Threads:
    """The conversations of all visitors.

    What takes a `user_id` writes for that visitor alone, and raises PermissionError where the thread, the step or the
    element is another's; one that was the visitor's, see `move`, is not. What takes none does not ask whose the thread
    is: its callers have, see `author`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reach(self) -> None:
        """See whether the database takes writes, without one.

        Raises:
            DatabaseAway: it does not.
        """
        async with self._database.write() as connection:
            await connection.execute(select(1))

    async def author(self, thread_id: str) -> str:
        """The identifier of the thread's visitor; empty if there is no such thread."""
        return await self._author(select(threads.c.id).where(threads.c.id == thread_id))

    async def _author(self, thread: Select[Any]) -> str:
        """Whose the thread is that a query finds; empty if it finds none."""
        query = select(users.c.identifier).join(threads, threads.c.user_id == users.c.id)
        async with self._database.read() as connection:
            found = (await connection.execute(query.where(threads.c.id.in_(thread)))).scalar()
        return found or ""

    async def get(self, thread_id: str) -> Conversation | None:
        """A thread with all that belongs to it; None: unknown."""
        async with self._database.read() as connection:
            row = await first_row(connection, owned_threads().where(threads.c.id == thread_id))
            if row is None:
                return None
            ordered = select(steps).where(steps.c.thread_id == thread_id).order_by(steps.c.position)
            said = tuple(Step(**fields_of(step)) for step in await all_rows(connection, ordered))
            ordered = select(elements).where(elements.c.thread_id == thread_id).order_by(elements.c.position)
            shown = tuple(Element(**fields_of(element)) for element in await all_rows(connection, ordered))
            columns = (feedback.c[field.name] for field in fields(Thumb))
            given = await all_rows(connection, select(*columns).where(feedback.c.thread_id == thread_id))
        return Conversation(thread_of(row), said, shown, {thumb["step_id"]: Thumb(**thumb) for thumb in given})

    async def ids(self, user_id: str) -> Sequence[str]:
        """All of a visitor's threads, the one that was begun first first."""
        query = select(threads.c.id).where(threads.c.user_id == user_id).order_by(threads.c.created_at, threads.c.id)
        async with self._database.read() as connection:
            found: Sequence[str] = (await connection.execute(query)).scalars().all()
        return found

    async def list(
        self,
        user_id: str,
        *,
        first: int,
        cursor: str | None = None,
        search: str | None = None,
        thumb: int | None = None,
    ) -> ThreadPage:
        """A visitor's threads, the one that was used last first.

        Args:
            user_id: whose.
            first: how many, 1 to 100; what is outside is taken as the nearer of the two.
            cursor: of the page before; None: from the newest.
            search: part of the name or of what was said, whatever its case.
            thumb: only those with a step that was given this thumb (1 up, 0 down).

        Raises:
            ValueError: the cursor is not of a page before.
        """
        first = min(max(first, 1), _LONGEST_PAGE)
        query = owned_threads().where(threads.c.user_id == user_id)
        if thumb is not None:
            query = query.where(threads.c.id.in_(select(feedback.c.thread_id).where(feedback.c.value == thumb)))
        if cursor:
            at, known = from_cursor(cursor)
            query = query.where(or_(threads.c.updated_at < at, and_(threads.c.updated_at == at, threads.c.id < known)))
        query = query.order_by(threads.c.updated_at.desc(), threads.c.id.desc()).limit(first + 1)
        async with self._database.read() as connection:
            if search:
                query = query.where(says(search, connection.dialect.name))
            rows = await all_rows(connection, query)
        following = to_cursor(rows[first - 1]) if len(rows) > first else None
        return ThreadPage(tuple(thread_of(row) for row in rows[:first]), following)

    async def count(self, user_id: str) -> int:
        """How many conversations a visitor has."""
        query = select(func.count()).select_from(threads).where(threads.c.user_id == user_id)
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def move(self, user_id: str, to_user_id: str) -> int:
        """All conversations of a visitor become another's.

        A reply that is being written in one of them meanwhile goes on, and is stored with it.

        Returns:
            How many those were.
        """
        own = update(threads).where(threads.c.user_id == user_id)
        async with self._database.write() as connection:
            moved = await connection.execute(own.values(user_id=to_user_id, moved_from=user_id))
        return moved.rowcount

    async def save(
        self,
        thread_id: str,
        user_id: str | None,
        *,
        make: bool = True,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
    ) -> None:
        """Make a thread or change it; what is None stays as it is, metadata is merged key by key.

        Without a `user_id` no thread is made, and one that is gone stays gone.

        Args:
            make: False: only change it, and only if it is there and the visitor's.

        Raises:
            ThreadDeleted: `user_id` has deleted it.
            PermissionError: it is another's.
        """
        wanted = threads.c.id == thread_id
        if user_id is not None:
            wanted = and_(wanted, may_write(user_id))
        async with self._database.write() as connection:
            if user_id is not None and make:
                await _claim(connection, thread_id, user_id)
            row = await first_row(connection, select(threads.c.metadata).where(wanted).with_for_update())
            values: Json = {}
            if name is not None:
                values["name"] = thread_name(storable(name))
            if metadata is not None and row is not None:
                values["metadata"] = row["metadata"] | storable(dict(metadata))
            if tags is not None:
                values["tags"] = storable(tags)
            if values:
                await connection.execute(update(threads).where(wanted).values(**values))

    async def delete(self, thread_id: str) -> None:
        """Delete a thread with all that belongs to it, for ever: what comes late for it is refused, also where nothing
        of it had been stored yet."""
        async with self._database.write() as connection:
            await connection.execute(delete(threads).where(threads.c.id == thread_id))
            await insert_new(connection, deleted_threads, "id", {"id": thread_id, "deleted_at": now()})

    async def save_step(self, step: Step, user_id: str, element: Element | None = None) -> None:
        """Store a step, or its new state: it keeps its place, and metadata is merged key by key.

        The thread is made if it is not there: the page tells of a thread and of its first steps in no certain order.

        Args:
            step: to be stored.
            user_id: the visitor.
            element: of the same thread, stored with it or not at all.

        Raises:
            ThreadDeleted: the visitor has deleted the thread.
            PermissionError: the thread is another visitor's, or a step or element of that id is another thread's.
        """
        values = storable(asdict(step))
        query = select(steps.c.thread_id, steps.c.metadata, steps.c.created_at).where(steps.c.id == values["id"])
        async with self._database.write() as connection:
            await _use(connection, values["thread_id"], user_id)
            if not await insert_new(connection, steps, "id", values):
                known = await first_row(connection, query.with_for_update())
                if known is None or known["thread_id"] != values["thread_id"]:
                    raise PermissionError("the step is another conversation's")
                values["metadata"] = known["metadata"] | values["metadata"]
                values["created_at"] = known["created_at"] or values["created_at"]
                await connection.execute(update(steps).where(steps.c.id == values["id"]).values(**values))
            if element is not None:
                await _put(connection, replace(element, thread_id=step.thread_id))

    async def save_step_metadata(self, step_id: str, metadata: Mapping[str, Any], user_id: str) -> None:
        """Merge into a step's metadata, key by key; nothing happens if the visitor has no such step."""
        query = select(steps.c.metadata).where(steps.c.id == step_id, written_by(user_id, steps.c.thread_id))
        async with self._database.write() as connection:
            known = await first_row(connection, query.with_for_update())
            if known is not None:
                merged = known["metadata"] | storable(dict(metadata))
                await connection.execute(update(steps).where(steps.c.id == step_id).values(metadata=merged))

    async def delete_step(self, step_id: str, user_id: str) -> None:
        """Delete a step with its elements and feedback; nothing happens if the visitor has no such step."""
        shown = elements.c.step_id == step_id, written_by(user_id, elements.c.thread_id)
        said = steps.c.id == step_id, written_by(user_id, steps.c.thread_id)
        async with self._database.write() as connection:
            await connection.execute(_thread_of_step(step_id))
            await connection.execute(delete(elements).where(*shown))
            await connection.execute(delete(steps).where(*said))

    async def save_element(self, element: Element, user_id: str) -> None:
        """Store an element, or its new state.

        Raises:
            ThreadDeleted: the visitor has deleted the thread.
            PermissionError: the thread is another visitor's, or an element of that id is another thread's.
        """
        async with self._database.write() as connection:
            await _claim(connection, storable(element.thread_id), user_id)
            await _put(connection, element)

    async def element(self, thread_id: str, element_id: str) -> Element | None:
        """An element of that thread, or None."""
        query = select(elements).where(elements.c.id == element_id, elements.c.thread_id == thread_id)
        async with self._database.read() as connection:
            row = await first_row(connection, query)
        return Element(**fields_of(row)) if row else None

    async def delete_element(self, thread_id: str, element_id: str, user_id: str) -> None:
        """Delete an element of that thread; nothing happens if the visitor has no such element there."""
        there = elements.c.id == element_id, elements.c.thread_id == thread_id
        async with self._database.write() as connection:
            await connection.execute(delete(elements).where(*there, written_by(user_id, elements.c.thread_id)))

    async def step_author(self, step_id: str) -> str:
        """The identifier of the visitor who has the step; empty if there is no such step."""
        return await self._author(select(steps.c.thread_id).where(steps.c.id == step_id))

    async def thumb_author(self, thumb_id: str) -> str:
        """The identifier of the visitor who has the step with that thumb; empty if there is no such thumb."""
        return await self._author(select(feedback.c.thread_id).where(feedback.c.id == thumb_id))

    async def save_thumb(self, step_id: str, value: int, comment: str | None) -> str:
        """Store a thumb (1 up, 0 down) for a step, in place of the one before.

        Returns:
            Its id.

        Raises:
            LookupError: there is no such step.
        """
        async with self._database.write() as connection:
            thread_id = (await connection.execute(_thread_of_step(step_id))).scalar()
            if thread_id is None:
                raise LookupError("the message is not there")
            thumb = Thumb(str(uuid.uuid4()), step_id, value, storable(comment), now())
            row = asdict(thumb) | {"thread_id": thread_id}
            statement = upsert(connection, feedback).values(**row)
            await connection.execute(statement.on_conflict_do_update(index_elements=["step_id"], set_=row))
        return thumb.id

    async def delete_thumb(self, thumb_id: str) -> bool:
        """Delete a thumb; False if there is none of that id."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(feedback).where(feedback.c.id == thumb_id))
        return bool(gone.rowcount)


def _thread_of_step(step_id: str) -> Select[tuple[str]]:
    """The id of a step's thread, locked before its rows, as everywhere: else two writers could wait for each other."""
    query = select(threads.c.id).join(steps, steps.c.thread_id == threads.c.id)
    return query.where(steps.c.id == step_id).with_for_update(of=threads)


async def _put(connection: AsyncConnection, element: Element) -> None:
    """Store an element of a thread that is the visitor's."""
    values = storable(asdict(element))
    if not await insert_new(connection, elements, "id", values):
        same = elements.c.id == values["id"], elements.c.thread_id == values["thread_id"]
        changed = await connection.execute(update(elements).where(*same).values(**values))
        if not changed.rowcount:
            raise PermissionError("the element is another conversation's")


async def _use(connection: AsyncConnection, thread_id: str, user_id: str) -> None:
    """As `_claim`, and it is used now: in one statement where the thread is there, which is nearly always."""
    used = await connection.execute(_USED, {"thread": thread_id, "user": user_id, "at": now()})
    if not used.rowcount:
        await _claim(connection, thread_id, user_id)


async def _claim(connection: AsyncConnection, thread_id: str, user_id: str) -> None:
    """See that the thread is there and the visitor's, and keep other processes from changing it meanwhile."""
    query = select(threads.c.user_id, threads.c.moved_from).where(threads.c.id == thread_id).with_for_update()
    known = (await connection.execute(query)).first()
    if known is None:
        if await first_row(connection, select(deleted_threads.c.id).where(deleted_threads.c.id == thread_id)):
            raise ThreadDeleted("the conversation was deleted")
        at = now()
        row = {"id": thread_id, "user_id": user_id, "metadata": {}, "created_at": at, "updated_at": at}
        if await insert_new(connection, threads, "id", row):
            return
        # Another process was quicker, with a message of the same conversation.
        known = (await connection.execute(query)).first()
    if known is None or user_id not in known:
        raise PermissionError("the conversation is another visitor's")
