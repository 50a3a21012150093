"""The log of requests: a row for each reply, whichever way it ended."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from app.asker import Asker
from app.chat import Chat, ReplyOptions
from app.engines.catalog import Catalog
from app.errors import ChatError, StreamCut
from app.history import SessionHistory, StoredMessage
from app.request_log import RequestLog
from app.storage.database import Database
from app.storage.problems import DatabaseAway
from app.storage.requests import Requests
from tests.fakes.engine import ScriptedEngine

OPTIONS = ReplyOptions("gemma2:2b")


class AwayRequests(Requests):
    """A table whose database is away."""

    async def add(self, rows: object) -> None:
        raise DatabaseAway("nobody answers")


async def ask(
    chat: Chat, text: str, options: ReplyOptions = OPTIONS, *, stop: bool = False, asker: Asker | None = None
) -> None:
    events = chat.turn(SessionHistory("c"), StoredMessage("q", text), "a", options, asker=asker).events()
    try:
        async for _ in events:
            if stop:
                break
    except ChatError:
        pass
    await events.aclose()


async def test_each_reply_leaves_a_row_without_a_word_of_it(database: Database) -> None:
    log = RequestLog(Requests(database), gather=0)
    cut = ("half a", StreamCut(engine="Ollama"))
    engine = ScriptedEngine("my secret reply", "stopped at once", cut)
    chat = Chat(Catalog([engine]), on_end=log.add)
    await ask(chat, "my secret question")
    await ask(chat, "my secret question", stop=True, asker=Asker("v1", "key"))
    await ask(chat, "my secret question")
    await ask(chat, "my secret question", replace(OPTIONS, model="gone"))
    await log.close()
    rows = list(reversed(await Requests(database).newest(10)))
    assert [(row.source, row.status, row.error) for row in rows] == [
        ("page", "finished", None),
        ("v1", "stopped", None),
        ("page", "failed", "stream_cut"),
        ("page", "failed", "model_not_found"),
    ]
    first, *_, last = rows
    assert (first.engine, first.model_name, first.prompt_tokens, first.response_tokens) == ("ollama", "gemma2:2b", 9, 3)
    assert (last.engine, last.model_name, last.time_to_first_token_ms) == (None, None, None)
    assert first.time_to_first_token_ms is not None
    assert "secret" not in repr(rows)


async def test_rows_are_written_together_and_the_turn_does_not_wait(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = RequestLog(Requests(database), gather=60)
    writes = []
    write = Requests.add

    async def counted(self: Requests, rows: object) -> None:
        writes.append(rows)
        await write(self, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Requests, "add", counted)
    chat = Chat(Catalog([ScriptedEngine()]), on_end=log.add)
    for _ in range(5):
        await ask(chat, "hi")
    assert writes == []
    await log.close()
    assert [len(rows) for rows in writes] == [5]
    assert len(await Requests(database).newest(10)) == 5


async def test_while_the_database_is_away_rows_are_dropped_and_counted(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    log = RequestLog(AwayRequests(database), gather=0)
    chat = Chat(Catalog([ScriptedEngine()]), on_end=log.add)
    with caplog.at_level(logging.WARNING, "app.request_log"):
        await ask(chat, "hi")
        await ask(chat, "hi")
        await log.close()
    assert log.dropped == 2
    assert "requests are not logged: nobody answers" in caplog.text


async def test_no_more_wait_than_there_is_room_for(database: Database) -> None:
    log = RequestLog(Requests(database), gather=60, most_waiting=3)
    chat = Chat(Catalog([ScriptedEngine()]), on_end=log.add)
    for _ in range(5):
        await ask(chat, "hi")
    assert log.dropped == 2
    await log.close()
    assert len(await Requests(database).newest(10)) == 3


async def test_rows_that_come_later_are_written_too(database: Database) -> None:
    log = RequestLog(Requests(database), gather=0)
    chat = Chat(Catalog([ScriptedEngine()]), on_end=log.add)
    for count in (1, 2):
        await ask(chat, "hi")
        while len(await Requests(database).newest(10)) < count:
            await asyncio.sleep(0)
    await log.close()
