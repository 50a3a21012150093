"""Conversations: threads with their steps, elements and feedback."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import RowMapping, Select, and_, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.database import Database, now, storable
from app.storage.tables import elements, feedback, steps, threads, users

_NAME_LENGTH: Final = 80

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ThreadPage:
    """Some of a visitor's threads, newest first, and where the next page begins."""

    threads: tuple[Json, ...]
    next_cursor: str | None


def thread_name(text: str) -> str:
    """A thread's title: its first message's beginning, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _NAME_LENGTH else line[: _NAME_LENGTH - 1].rstrip() + "…"


class Threads:
    """The conversations of all visitors. A method that takes a thread's id does not ask whose it is: see `author`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def author(self, thread_id: str) -> str:
        """The identifier of the thread's visitor; empty if there is no such thread."""
        query = select(users.c.identifier).join(threads, threads.c.user_id == users.c.id)
        async with self._database.read() as connection:
            found = (await connection.execute(query.where(threads.c.id == thread_id))).scalar()
        return found or ""

    async def get(self, thread_id: str) -> Json | None:
        """A thread with all that belongs to it, steps and elements in the order in which they came; None: unknown."""
        query = select(threads, users.c.identifier).join(users, threads.c.user_id == users.c.id)
        async with self._database.read() as connection:
            row = (await connection.execute(query.where(threads.c.id == thread_id))).mappings().first()
            if row is None:
                return None
            thumbs = {
                thumb["step_id"]: {"forId": thumb["step_id"], **_pick(thumb, "id", "value", "comment")}
                for thumb in await _all(connection, select(feedback).where(feedback.c.thread_id == thread_id))
            }
            ordered = select(steps).where(steps.c.thread_id == thread_id).order_by(steps.c.position)
            found = [_step(step) | {"feedback": thumbs.get(step["id"])} for step in await _all(connection, ordered)]
            ordered = select(elements).where(elements.c.thread_id == thread_id).order_by(elements.c.position)
            parts = [element["content"] for element in await _all(connection, ordered)]
        return _thread(row) | {"steps": found, "elements": parts}

    async def list(
        self, user_id: str, *, first: int, cursor: str | None = None, search: str | None = None
    ) -> ThreadPage:
        """A visitor's threads, the one that was used last first.

        Args:
            user_id: whose.
            first: how many at most.
            cursor: of the page before; None: from the newest.
            search: part of the name, whatever its case.
        """
        query = select(threads, users.c.identifier).join(users, threads.c.user_id == users.c.id)
        query = query.where(threads.c.user_id == user_id)
        if search:
            query = query.where(threads.c.name_folded.contains(storable(search).casefold(), autoescape=True))
        if cursor:
            at, known = _from_cursor(cursor)
            query = query.where(or_(threads.c.updated_at < at, and_(threads.c.updated_at == at, threads.c.id < known)))
        query = query.order_by(threads.c.updated_at.desc(), threads.c.id.desc()).limit(first + 1)
        async with self._database.read() as connection:
            rows = await _all(connection, query)
        shown = tuple(_thread(row) | {"steps": [], "elements": []} for row in rows[:first])
        return ThreadPage(shown, _to_cursor(rows[first - 1]) if len(rows) > first else None)

    async def save(
        self, thread_id: str, user_id: str | None, *, name: str | None, metadata: Mapping[str, Any] | None, tags: Any
    ) -> None:
        """Make a thread or change it; what is None stays as it is, metadata is merged."""
        async with self._database.write() as connection:
            await self._make(connection, thread_id, user_id)
            row = (await _all(connection, select(threads).where(threads.c.id == thread_id)))[:1]
            if not row:
                return
            values: Json = {}
            if name is not None:
                values["name"] = thread_name(storable(name))
                values["name_folded"] = values["name"].casefold()
            if metadata is not None:
                values["metadata"] = row[0]["metadata"] | storable(dict(metadata))
            if tags is not None:
                values["tags"] = storable(tags)
            if values:
                await connection.execute(update(threads).where(threads.c.id == thread_id).values(**values))

    async def delete(self, thread_id: str) -> None:
        """Delete a thread with all that belongs to it."""
        async with self._database.write() as connection:
            await connection.execute(delete(threads).where(threads.c.id == thread_id))

    async def save_step(self, step: Mapping[str, Any], user_id: str | None) -> None:
        """Store a step, or its new state; its thread is made for `user_id` if it is not there.

        Raises:
            PermissionError: a step of that id belongs to another thread.
        """
        values = _step_values(storable(dict(step)))
        async with self._database.write() as connection:
            known = (await _all(connection, select(steps).where(steps.c.id == values["id"])))[:1]
            if known and known[0]["thread_id"] != values["thread_id"]:
                raise PermissionError("the step belongs to another thread")
            if known:
                values["metadata"] = known[0]["metadata"] | values["metadata"]
                values["created_at"] = known[0]["created_at"] or values["created_at"]
                await connection.execute(update(steps).where(steps.c.id == values["id"]).values(**values))
            else:
                await self._make(connection, values["thread_id"], user_id)
                await connection.execute(insert(steps).values(**values))
            touched = update(threads).where(threads.c.id == values["thread_id"]).values(updated_at=now())
            await connection.execute(touched)

    async def save_step_metadata(self, step_id: str, metadata: Mapping[str, Any]) -> None:
        """Merge into a step's metadata; a step that is gone stays gone."""
        async with self._database.write() as connection:
            known = (await _all(connection, select(steps.c.metadata).where(steps.c.id == step_id)))[:1]
            if known:
                merged = known[0]["metadata"] | storable(dict(metadata))
                await connection.execute(update(steps).where(steps.c.id == step_id).values(metadata=merged))

    async def delete_step(self, step_id: str) -> None:
        """Delete a step with its elements and feedback."""
        async with self._database.write() as connection:
            await connection.execute(delete(elements).where(elements.c.step_id == step_id))
            await connection.execute(delete(feedback).where(feedback.c.step_id == step_id))
            await connection.execute(delete(steps).where(steps.c.id == step_id))

    async def save_element(self, element: Mapping[str, Any], user_id: str | None) -> None:
        """Store an element (JSON, as the page draws it), or its new state."""
        content = storable(dict(element))
        values = {
            "id": content["id"],
            "thread_id": content["threadId"],
            "step_id": content.get("forId"),
            "content": content,
        }
        async with self._database.write() as connection:
            known = (await _all(connection, select(elements.c.thread_id).where(elements.c.id == values["id"])))[:1]
            if known and known[0]["thread_id"] != values["thread_id"]:
                raise PermissionError("the element belongs to another thread")
            if known:
                await connection.execute(update(elements).where(elements.c.id == values["id"]).values(**values))
            else:
                await self._make(connection, values["thread_id"], user_id)
                await connection.execute(insert(elements).values(**values))

    async def element(self, thread_id: str, element_id: str) -> Json | None:
        """An element of that thread, or None."""
        query = select(elements).where(elements.c.id == element_id, elements.c.thread_id == thread_id)
        async with self._database.read() as connection:
            found = (await _all(connection, query))[:1]
        return dict(found[0]["content"]) if found else None

    async def delete_element(self, thread_id: str, element_id: str) -> None:
        """Delete an element of that thread."""
        async with self._database.write() as connection:
            await connection.execute(
                delete(elements).where(elements.c.id == element_id, elements.c.thread_id == thread_id)
            )

    async def save_feedback(self, step_id: str, value: int, comment: str | None, feedback_id: str | None = None) -> str:
        """Store a thumb (1 up, 0 down) for a step, in place of the one before.

        Returns:
            Its id.

        Raises:
            LookupError: there is no such step.
        """
        async with self._database.write() as connection:
            thread_id = (await connection.execute(select(steps.c.thread_id).where(steps.c.id == step_id))).scalar()
            if thread_id is None:
                raise LookupError("the step is not there")
            await connection.execute(delete(feedback).where(feedback.c.step_id == step_id))
            new_id = feedback_id or str(uuid.uuid4())
            await connection.execute(
                insert(feedback).values(
                    id=new_id,
                    thread_id=thread_id,
                    step_id=step_id,
                    value=value,
                    comment=storable(comment),
                    created_at=now(),
                )
            )
        return new_id

    async def delete_feedback(self, feedback_id: str) -> bool:
        """Delete a thumb; False if there is none of that id."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(feedback).where(feedback.c.id == feedback_id))
        return bool(gone.rowcount)

    async def _make(self, connection: AsyncConnection, thread_id: str, user_id: str | None) -> None:
        """The thread's row, if it is not there and somebody owns it."""
        if user_id is None:
            return
        make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        at = now()
        await connection.execute(
            make(threads)
            .values(id=thread_id, user_id=user_id, metadata={}, created_at=at, updated_at=at)
            .on_conflict_do_nothing()
        )


async def _all(connection: AsyncConnection, query: Select[Any]) -> Sequence[RowMapping]:
    rows: Sequence[RowMapping] = (await connection.execute(query)).mappings().all()
    return rows


def _pick(row: RowMapping, *names: str) -> Json:
    return {name: row[name] for name in names}


def _thread(row: RowMapping) -> Json:
    return {
        "id": row["id"],
        "createdAt": row["updated_at"],
        "name": row["name"],
        "userId": row["user_id"],
        "userIdentifier": row["identifier"],
        "tags": row["tags"] or [],
        "metadata": row["metadata"],
    }


# Chainlit's names for what `display` holds.
_DISPLAY: Final = ("language", "showInput", "defaultOpen", "autoCollapse", "tags", "waitForAnswer", "command", "modes")


def _step_values(step: Json) -> Json:
    return {
        "id": step["id"],
        "thread_id": step["threadId"],
        "parent_id": step.get("parentId"),
        "type": step.get("type") or "undefined",
        "name": step.get("name") or "",
        "input": str(step.get("input") or ""),
        "output": str(step.get("output") or ""),
        "is_error": bool(step.get("isError")),
        "metadata": step.get("metadata") or {},
        "display": {name: step[name] for name in _DISPLAY if step.get(name) is not None},
        "created_at": step.get("createdAt"),
        "started_at": step.get("start"),
        "ended_at": step.get("end"),
    }


def _step(row: RowMapping) -> Json:
    display: Json = row["display"]
    return display | {
        "id": row["id"],
        "threadId": row["thread_id"],
        "parentId": row["parent_id"],
        "type": row["type"],
        "name": row["name"],
        "input": row["input"],
        "output": row["output"],
        "isError": row["is_error"],
        "metadata": row["metadata"],
        "createdAt": row["created_at"],
        "start": row["started_at"],
        "end": row["ended_at"],
        "streaming": False,
    }


def _to_cursor(row: RowMapping) -> str:
    return base64.urlsafe_b64encode(json.dumps([row["updated_at"], row["id"]]).encode()).decode()


def _from_cursor(cursor: str) -> tuple[str, str]:
    try:
        at, known = json.loads(base64.urlsafe_b64decode(cursor))
        return str(at), str(known)
    except ValueError:
        raise ValueError("that is not a cursor of ours") from None
