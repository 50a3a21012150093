"""The log of requests: a row for each reply, whichever way it ended."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from app.asker import Asker, visitor_hash
from app.chat import Chat
from app.engines.catalog import Catalog
from app.errors import ChatError, StreamCut
from app.history import SessionHistory, StoredMessage
from app.prompting import ReplyOptions
from app.request_log import CUT, RequestLog, cut
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


# What was said, where the operator wants it


async def test_what_was_said_is_kept_where_it_is_wanted(database: Database) -> None:
    log = RequestLog(Requests(database), text_bytes=100, gather=0)
    cut_off = ("half a", StreamCut(engine="Ollama"))
    chat = Chat(Catalog([ScriptedEngine("Boil it. 🍚", cut_off, "Long. " * 100)]), on_end=log.add)
    await ask(chat, "Рис?\0")
    await ask(chat, "Beans?")
    await ask(chat, "Говори")
    await ask(chat, "Gone?", replace(OPTIONS, model="gone"))
    await log.close()
    rows = list(reversed(await Requests(database).newest(10)))
    assert [(row.input_text, row.output_text) for row in rows[:2]] == [("Рис?", "Boil it. 🍚"), ("Beans?", "half a")]
    assert rows[2].output_text is not None
    assert len(rows[2].output_text.encode()) <= 100
    assert rows[2].output_text.endswith(CUT)
    assert (rows[3].input_text, rows[3].output_text) == (None, None)


@pytest.mark.parametrize("most", range(9, 40))
def test_a_text_is_cut_between_two_characters(most: int) -> None:
    text = cut("я🍚" * 20, most)
    assert len(text.encode()) <= most
    assert text.endswith(CUT)
    assert "\ufffd" not in text


def test_a_text_that_fits_is_whole() -> None:
    assert cut("я" * 20, 40) == "я" * 20
    assert cut("a\ud800", 40) == "a\ufffd"


async def test_an_id_that_a_program_made_fits_the_table(database: Database) -> None:
    log = RequestLog(Requests(database), gather=0)
    chat = Chat(Catalog([ScriptedEngine()]), on_end=log.add)
    await ask(chat, "hi", asker=Asker("v1", "k\0" * 400, "\ud800" * 400))
    await log.close()
    (row,) = await Requests(database).newest(10)
    assert (len(row.request_id), len(row.client or "")) == (64, 200)


async def test_who_is_forgotten_has_said_nothing_in_any_row(database: Database) -> None:
    log = RequestLog(Requests(database), text_bytes=100, gather=60)
    chat = Chat(Catalog([ScriptedEngine()]), on_end=log.add)
    for number in range(3):
        await ask(chat, f"secret {number}", asker=Asker("page", visitor_hash("anon-ann")))
    await ask(chat, "of another", asker=Asker("page", visitor_hash("anon-eve")))
    first = RequestLog(Requests(database), text_bytes=100, gather=0)
    chat.on_end = first.add
    await ask(chat, "secret, written already", asker=Asker("api", visitor_hash("anon-ann")))
    await first.close()
    await log.forget("anon-ann")
    await log.close()
    rows = await Requests(database).newest(10)
    assert len(rows) == 5
    assert "secret" not in repr(rows)
    (other,) = [row for row in rows if row.client is not None]
    assert (other.client, other.input_text) == (visitor_hash("anon-eve"), "of another")


async def test_a_row_that_is_being_written_is_forgotten_too(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing, go_on = asyncio.Event(), asyncio.Event()
    write = Requests.add

    async def slow(self: Requests, rows: object) -> None:
        writing.set()
        await go_on.wait()
        await write(self, rows)  # type: ignore[arg-type]

    monkeypatch.setattr(Requests, "add", slow)
    log = RequestLog(Requests(database), text_bytes=100, gather=0)
    chat = Chat(Catalog([ScriptedEngine()]), on_end=log.add)
    await ask(chat, "secret", asker=Asker("page", visitor_hash("anon-ann")))
    await writing.wait()
    forgetting = asyncio.create_task(log.forget("anon-ann"))
    await asyncio.sleep(0)
    go_on.set()
    await forgetting
    await log.close()
    (row,) = await Requests(database).newest(10)
    assert (row.client, row.input_text, row.output_text) == (None, None, None)
