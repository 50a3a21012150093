"""Conversations of one visitor by the thousand, written straight into the database."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import insert

from app.page.visitor import visitor_of
from app.storage.database import Database
from app.storage.tables import elements, steps, threads
from app.storage.visitors import Visitors
from app.transcript import LEFT_OUT, TOKENS
from tests.tab import Visitor

_CHUNK: Final = 500
_BEGAN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_ANSWER: Final = (
    "An answer of an ordinary length, with **bold** words, `code` and a list:\n\n- one\n- two\n\n" + "words " * 60
)


def name_of(visitor: Visitor) -> str:
    """What the database calls a visitor."""
    return visitor_of(visitor.http.cookies["visitor"])


async def fill(url: str, identifier: str, count: int, *, turns: int = 1) -> list[str]:
    """Give a visitor conversations of `turns` questions with their answers.

    Returns:
        The threads' ids; the one last used is the last.
    """
    database = Database(url)
    try:
        user = await Visitors(database).add(identifier, {})
        ids = [str(uuid.uuid4()) for _ in range(count)]
        for first in range(0, count, _CHUNK):
            await _write(database, user.id, first, ids[first : first + _CHUNK], turns)
        await _analyze(database)
        return ids
    finally:
        await database.close()


async def _write(database: Database, user_id: str, first: int, ids: list[str], turns: int) -> None:
    rows: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for number, thread_id in enumerate(ids, start=first):
        at = (_BEGAN + timedelta(minutes=number)).isoformat(timespec="microseconds")
        rows.append(
            {
                "id": thread_id,
                "user_id": user_id,
                "name": f"Conversation {number}",
                "metadata": {},
                "created_at": at,
                "updated_at": at,
            }
        )
        for turn in range(turns):
            said.append(_step(thread_id, "user_message", f"Question {turn} of conversation {number}?", at))
            answer = _step(thread_id, "assistant_message", f"{turn}: {_ANSWER}", at)
            said.append(answer)
            shown.append(_line(thread_id, answer["id"]))
    async with database.write() as connection:
        await connection.execute(insert(threads), rows)
        await connection.execute(insert(steps), said)
        await connection.execute(insert(elements), shown)


def _step(thread_id: str, kind: str, text: str, at: str) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "thread_id": thread_id,
        "parent_id": None,
        "type": kind,
        "name": "chainlit-ollama" if kind == "assistant_message" else "user",
        "input": "",
        "output": text,
        "is_error": False,
        "metadata": {TOKENS: {"ollama/gemma2:2b": 90}, LEFT_OUT: 0},
        "display": {},
        "created_at": at,
        "started_at": at,
        "ended_at": at,
    }


def _line(thread_id: str, step_id: str) -> dict[str, Any]:
    """The line under a reply."""
    metrics = {
        "outcome": "finished",
        "total_seconds": 4.2,
        "first_token_seconds": 0.4,
        "reply_tokens": 90,
        "estimated": False,
        "characters": len(_ANSWER),
        "context_used": 900,
        "context_length": 4096,
        "tokens_per_second": 17.8,
    }
    props = {
        "phase": "finished",
        "language": "en",
        "model": "gemma2:2b",
        "engine": "ollama",
        "retry": True,
        "notes": [],
        "message_id": step_id,
        "metrics": metrics,
    }
    element_id = str(uuid.uuid4())
    content = {
        "id": element_id,
        "threadId": thread_id,
        "type": "custom",
        "name": "ReplyStatus",
        "display": "inline",
        "forId": step_id,
        "props": props,
    }
    return {"id": element_id, "thread_id": thread_id, "step_id": step_id, "content": content}


async def _analyze(database: Database) -> None:
    """What PostgreSQL does by itself after a while."""
    async with database.read() as connection:
        if connection.dialect.name == "sqlite":
            return
    async with database.write() as connection:
        await connection.exec_driver_sql("ANALYZE")
