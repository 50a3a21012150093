"""The database is somebody else's for a while: a reply does not wait for it, neither before its first token nor after.

So storage adds nothing to the time before the engine is asked.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import asyncpg
import pytest

from tests.postgres import PASSWORD, USER, Postgres, wait_for
from tests.site import Program, fake_ollama, server
from tests.tab import Tab, Visitor, question
from tests.unit.test_resume import ask_for_settings, last_request, thread_of

Lock = Callable[[], AbstractContextManager[None]]
FIRST = "0b0e8f9a-3b1c-4b60-9d5a-2f6a2c1d0e11"
# Longer than any wait of the test: what has come, came while the database was locked.
STORE_WAIT = "60"


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with fake_ollama(tmp_path_factory.mktemp("ollama"), "--speedup", "1000") as fake:
        yield fake


@contextmanager
def sqlite_locked(file: Path) -> Iterator[None]:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@contextmanager
def postgres_locked(postgres: Postgres, name: str) -> Iterator[None]:
    locked, done = Event(), Event()

    async def hold() -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=postgres.port, user=USER, password=PASSWORD, database=name
        )
        async with connection.transaction():
            await connection.execute(
                "LOCK TABLE users, threads, steps, elements, request_logs IN ACCESS EXCLUSIVE MODE"
            )
            locked.set()
            await asyncio.to_thread(done.wait)
        await connection.close()

    thread = Thread(target=lambda: asyncio.run(hold()))
    thread.start()
    assert locked.wait(20)
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, ollama: Program, tmp_path: Path) -> Iterator[tuple[Program, Lock]]:
    """A server, and what locks its database."""
    variables = {"OLLAMA_HOST": ollama.url, "STORE_WAIT": STORE_WAIT}
    if request.param == "sqlite":
        lock: Lock = lambda: sqlite_locked(tmp_path / "data" / "chat.db")  # noqa: E731
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        name = wait_for(postgres.new_database)
        variables["DATABASE_URL"] = postgres.url(name)
        lock = lambda: postgres_locked(postgres, name)  # noqa: E731
    with server(tmp_path, **variables) as program:
        yield program, lock


def text_of(tab: Tab, whole: str) -> None:
    """Wait until the tab has been told this text, piece by piece."""
    [begun] = tab.wait_for("stream_start")
    text = begun["output"]
    while text != whole:
        [piece] = tab.wait_for("stream_token")
        text += piece["token"]


def steps_of(visitor: Visitor, thread: str) -> list[Any]:
    return [step["output"] for step in visitor.thread(thread)["steps"]]


def test_the_engine_is_asked_and_its_text_shown_while_the_database_takes_nothing(
    site: tuple[Program, Lock], ollama: Program
) -> None:
    program, lock = site
    with Visitor(program.url) as visitor, Tab(visitor) as tab:
        ask_for_settings(tab, {"temperature": 0.5})
        with lock():
            tab.send("client_message", question("!echo the first words here", FIRST))  # a new conversation
            text_of(tab, "the first words here")
            assert last_request(ollama)["messages"][-1]["content"] == "!echo the first words here"
        tab.wait_for("task_end")
        second = tab.ask("!echo second")
        with lock():
            tab.send("edit_message", question("!echo edited words", second))  # old replies to delete
            text_of(tab, "edited words")
        tab.wait_for("task_end")
        assert steps_of(visitor, thread_of(tab)) == [
            "!echo the first words here",
            "the first words here",
            "!echo edited words",
            "edited words",
        ]
