"""PostgreSQL as it is in life: away, restarted in mid-use, hanging, wrongly set up; and several programs at once."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from app.page.data_layer import ChatDataLayer
from app.storage import connect
from app.storage.database import Database
from app.storage.problems import DatabaseAway, DatabaseRefused
from app.storage.records import Element, Step, ThreadDeleted
from app.storage.tables import users
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from tests.postgres import PASSWORD, Postgres
from tests.unit.test_unsaved import all_kept

KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'chainlit-ollama'"


@pytest.fixture
async def url(postgres: Postgres) -> str:
    return postgres.url(await postgres.new_database())


@pytest.fixture
def database_url(url: str) -> str:
    return url


@pytest.fixture
def layer(database: Database) -> ChatDataLayer:
    return ChatDataLayer(Threads(database), Visitors(database))


def said(thread_id: str, step_id: str, text: str = "hello") -> Step:
    return Step(id=step_id, thread_id=thread_id, type="user_message", output=text)


async def test_after_a_restart_of_the_server_everything_works_at_once(postgres: Postgres, database: Database) -> None:
    threads, visitors = Threads(database), Visitors(database)
    ann = await visitors.add("ann", {})
    # Several connections in the pool, and all of them dead after the restart.
    await asyncio.gather(*(threads.author("t") for _ in range(5)))
    postgres.stop()
    with pytest.raises(DatabaseAway):
        await threads.save_step(said("t", "lost"), ann.id)
    with pytest.raises(DatabaseAway):
        await threads.get("t")
    postgres.start()
    await threads.save_step(said("t", "q"), ann.id)
    await asyncio.gather(*(threads.author("t") for _ in range(5)))
    kept = await threads.get("t")
    assert kept is not None
    assert [step.id for step in kept.steps] == ["q"]


async def test_connections_that_the_server_has_cut_are_not_used(postgres: Postgres, database: Database) -> None:
    visitors = Visitors(database)
    await visitors.add("ann", {})
    await postgres.execute(KILL)
    await visitors.add("bob", {})
    await postgres.execute(KILL)
    assert await visitors.get("bob") is not None


async def test_a_write_that_the_server_cuts_in_its_middle_is_away_and_leaves_nothing(
    postgres: Postgres, database: Database
) -> None:
    async def write() -> None:
        async with database.write() as connection:
            row = {"id": "u", "identifier": "ann", "metadata": {}, "created_at": ""}
            await connection.execute(insert(users).values(**row))
            await postgres.execute(KILL)
            await connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseAway):
        await write()
    assert await Visitors(database).get("ann") is None


async def test_one_that_is_away_at_the_start_is_used_as_soon_as_it_is_there(postgres: Postgres, url: str) -> None:
    postgres.stop()
    database = Database(url)
    with pytest.raises(DatabaseAway):
        await database.open()
    with pytest.raises(DatabaseAway):
        await Visitors(database).get("ann")
    postgres.start()
    await asyncio.gather(*(Visitors(database).add(f"visitor {n}", {}) for n in range(5)))
    assert await Visitors(database).get("visitor 4") is not None
    await database.close()


async def test_while_it_is_away_what_was_asked_for_fails_in_one_line_and_the_rest_waits(
    postgres: Postgres, layer: ChatDataLayer, caplog: pytest.LogCaptureFixture
) -> None:
    await layer.save_preferences("ann", {"temperature": 0.1})
    postgres.stop()
    with caplog.at_level(logging.ERROR):
        await layer.save_preferences("ann", {"temperature": 0.9})
        assert await layer.load_preferences("ann") == {"temperature": 0.9}
        assert await layer.load_preferences("bob") == {}
        with pytest.raises(DatabaseAway):
            await layer.update_thread("t", name="renamed")
    assert layer.failed_writes == layer.failed_requests == 1
    assert layer.unsaved.waiting == 1
    assert len(caplog.records) == 3
    assert all(record.exc_info is None for record in caplog.records)
    assert "STORE the database takes no writes, they wait: " in caplog.text
    assert "CHAT not kept, _change_thread failed: " in caplog.text
    assert PASSWORD not in caplog.text
    postgres.start()
    await all_kept(layer.unsaved)
    assert await layer.load_preferences("ann") == {"temperature": 0.9}
    assert layer.failed_writes == 1


async def test_a_server_that_takes_connections_and_says_nothing_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "_CONNECT_SECONDS", 0.3)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(DatabaseAway, match="no answer in time"):
        await Database(f"postgresql+asyncpg://chat:x@127.0.0.1:{port}/chat").open()
    server.close()


async def test_who_waits_while_it_cannot_be_reached_does_not_wait_for_a_try_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connect, "_CONNECT_SECONDS", 0.5)
    server = await asyncio.start_server(lambda *_: asyncio.sleep(60), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    visitors = Visitors(Database(f"postgresql+asyncpg://chat:x@127.0.0.1:{port}/chat"))
    begun = time.monotonic()
    results = await asyncio.gather(*(visitors.add(f"visitor {n}", {}) for n in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {DatabaseAway}
    assert time.monotonic() - begun < 5
    server.close()


async def test_an_answer_that_does_not_come_is_away(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "_ANSWER_SECONDS", 0.3)
    database = Database(url)

    async def read() -> None:
        async with database.read() as connection:
            await connection.execute(text("SELECT pg_sleep(5)"))

    with pytest.raises(DatabaseAway, match="no answer in time"):
        await read()
    assert await Visitors(database).get("ann") is None
    await database.close()


async def test_a_wrong_password_is_refused_and_not_shown(postgres: Postgres, url: str) -> None:
    wrong = Database(postgres.url(url.rpartition("/")[2], "hunter2"))
    with pytest.raises(DatabaseRefused) as refusal:
        await wrong.open()
    assert str(refusal.value) == 'password authentication failed for user "chat"'


async def test_a_database_that_is_not_there_is_refused(postgres: Postgres) -> None:
    with pytest.raises(DatabaseRefused, match='database "nowhere" does not exist'):
        await Database(postgres.url("nowhere")).open()


async def test_the_values_of_a_row_that_is_refused_are_in_no_error(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    row = {"id": "u", "identifier": "my diary", "metadata": {}, "created_at": None}

    async def write() -> None:
        async with database.write() as connection:
            await connection.execute(insert(users).values(**row))

    with pytest.raises(DBAPIError, match="violates not-null"):
        await write()
    try:
        await write()
    except DBAPIError:
        logging.getLogger("test").exception("failed")
    assert "violates not-null" in caplog.text
    assert "my diary" not in caplog.text


# Several programs on one database


async def programs(url: str, count: int) -> tuple[list[Database], list[Threads]]:
    databases = [Database(url) for _ in range(count)]
    for database in databases:
        await database.open()
    return databases, [Threads(database) for database in databases]


async def test_programs_that_write_the_same_at_the_same_moment_do_not_fail(url: str) -> None:
    databases, several = await programs(url, 3)
    found = await asyncio.gather(*(Visitors(database).add("ann", {str(n): n}) for n, database in enumerate(databases)))
    (ann,) = {visitor.id for visitor in found}
    for n in range(10):
        thread_id, step_id = f"t{n}", f"s{n}"
        await asyncio.gather(*(threads.save_step(said(thread_id, step_id), ann) for threads in several))
        await asyncio.gather(*(threads.save_thumb(step_id, 1, None) for threads in several))
        await asyncio.gather(*(t.save_element(Element(f"e{n}", thread_id, step_id, {}), ann) for t in several))
        await asyncio.gather(*(t.save_step_metadata(step_id, {str(k): k}, ann) for k, t in enumerate(several)))
        kept = await several[0].get(thread_id)
        assert kept is not None
        assert [step.metadata for step in kept.steps] == [{"0": 0, "1": 1, "2": 2}]
        assert (len(kept.elements), len(kept.thumbs)) == (1, 1)
    await asyncio.gather(*(database.close() for database in databases))


async def test_what_one_program_deletes_another_does_not_bring_back(url: str) -> None:
    databases, several = await programs(url, 2)
    ann = await Visitors(databases[0]).add("ann", {})
    for n in range(15):
        thread_id = f"t{n}"
        await several[0].save_step(said(thread_id, f"q{n}"), ann.id)
        writes: list[Any] = [several[0].save_step(said(thread_id, f"a{n}-{k}"), ann.id) for k in range(5)]
        writes += [several[0].save_thumb(f"q{n}", 1, None), several[0].delete_step(f"q{n}", ann.id)]
        results = await asyncio.gather(*writes, several[1].delete(thread_id), return_exceptions=True)
        assert all(result is None or isinstance(result, str | ThreadDeleted | LookupError) for result in results)
        assert await several[0].get(thread_id) is None
    await asyncio.gather(*(database.close() for database in databases))


async def test_a_reading_is_of_one_moment(database: Database) -> None:
    visitors = Visitors(database)
    async with database.read() as connection:
        before = (await connection.execute(text("SELECT count(*) FROM users"))).scalar()
        await visitors.add("ann", {})
        assert (await connection.execute(text("SELECT count(*) FROM users"))).scalar() == before
    assert await visitors.get("ann") is not None
