"""The line of writes while the database comes and goes: order, bounds, what is told of it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.storage import connect
from app.storage.database import Database
from app.storage.problems import DatabaseAway
from app.storage.records import Element, Step, Visitor
from app.storage.threads import Threads
from app.storage.unsaved import Fate, Unsaved, away_since
from app.storage.visitors import Visitors
from app.storage.writes import (
    DeleteStep,
    SaveElement,
    SavePreferences,
    SaveStep,
    SaveStepMetadata,
    SaveThread,
    Write,
    Writer,
    with_writes,
)


async def all_kept(unsaved: Unsaved) -> None:
    """Wait until nothing waits any more."""
    async with asyncio.timeout(30):
        while unsaved.waiting or unsaved.away_since is not None:
            unsaved.hurry()
            await asyncio.sleep(0.01)


class Gate:
    """A database that can be told to be away, in front of a real one."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = False
        self.hanging = asyncio.Event()
        self.hanging.set()
        self.writes = 0
        write = database.write

        def guarded() -> Any:
            self.writes += 1
            return self._write(write)

        monkeypatch.setattr(database, "write", guarded)

    def _write(self, write: Any) -> Any:
        from contextlib import asynccontextmanager

        @asynccontextmanager
        async def guarded() -> AsyncIterator[Any]:
            if self.away:
                raise DatabaseAway("away")
            await self.hanging.wait()
            async with write() as connection:
                yield connection

        return guarded()


@pytest.fixture
def gate(database: Database, monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(database, monkeypatch)


@pytest.fixture
def threads(database: Database) -> Threads:
    return Threads(database)


@pytest.fixture
async def unsaved(database: Database, gate: Gate, threads: Threads) -> AsyncIterator[Unsaved]:
    line = Unsaved(threads, Visitors(database), max_bytes=10_000, patience=30)
    yield line
    gate.hanging.set()
    await line.close(0)


@pytest.fixture
async def ann(database: Database) -> Visitor:
    return await Visitors(database).add("ann", {})


ANN = Writer("ann")


def step(step_id: str, text: str = "hello", kind: str = "user_message", thread_id: str = "t", **more: Any) -> SaveStep:
    return SaveStep(Step(id=step_id, thread_id=thread_id, type=kind, output=text, **more))


async def stored(threads: Threads, thread_id: str = "t") -> list[tuple[str, str]]:
    found = await threads.get(thread_id)
    return [(known.id, known.output) for known in found.steps] if found else []


async def test_a_write_is_stored_when_its_fate_is_known(unsaved: Unsaved, threads: Threads) -> None:
    assert await unsaved.add(step("q"), ANN) == "kept"
    assert await stored(threads) == [("q", "hello")]
    assert unsaved.waiting == 0


async def test_what_waits_is_made_in_its_order_when_the_database_is_back(
    unsaved: Unsaved, threads: Threads, gate: Gate
) -> None:
    told: list[Any] = []
    unsaved.on_fate = lambda write, writer, fate: told.append((write.subject, writer.identifier, fate))
    unsaved.on_all_kept = lambda: told.append("all kept")
    gate.away = True
    for n in range(5):
        assert await unsaved.add(step(f"s{n}"), ANN) == "waiting"
    assert (unsaved.waiting, unsaved.lost) == (5, 0)
    assert unsaved.away_since is not None
    assert told == [(("step", f"s{n}"), "ann", "waiting") for n in range(5)]
    gate.away = False
    later = unsaved.add(step("s5"), ANN)
    await all_kept(unsaved)
    assert await later == "waiting"
    assert [step_id for step_id, _ in await stored(threads)] == [f"s{n}" for n in range(6)]
    assert told[-1] == "all kept"
    assert unsaved.away_since is None


async def test_a_database_that_still_answers_who_reads_is_away_while_it_takes_no_writes(
    unsaved: Unsaved, threads: Threads, database: Database, gate: Gate
) -> None:
    gate.away = True
    await unsaved.add(step("s"), ANN)
    assert await stored(threads) == []
    assert (database.away_since, away_since(database, None)) == (None, None)
    assert away_since(database, unsaved) == unsaved.away_since is not None
    gate.away = False
    await all_kept(unsaved)
    assert away_since(database, unsaved) is None


async def test_the_visitor_of_a_write_is_made_with_it(unsaved: Unsaved, database: Database, gate: Gate) -> None:
    gate.away = True
    await unsaved.add(step("q"), Writer("who came while it was away"))
    gate.away = False
    await all_kept(unsaved)
    assert await Threads(database).author("t") == "who came while it was away"


async def test_a_later_state_takes_the_place_of_the_one_that_waits(
    unsaved: Unsaved, threads: Threads, gate: Gate
) -> None:
    gate.away = True
    await unsaved.add(step("q"), ANN)
    await unsaved.add(step("a", "He", metadata={"one": 1}, created_at="then"), ANN)
    await unsaved.add(step("q2"), ANN)
    await unsaved.add(step("a", "Hello", metadata={"two": 2}, created_at="now"), ANN)
    await unsaved.add(SaveStepMetadata("t", "q", {"tokens": {"m": 1}}), ANN)
    await unsaved.add(SaveStepMetadata("t", "q", {"tokens": {"m": 2}}), ANN)
    await unsaved.add(SaveElement(Element("e", "t", "a", {"phase": "writing"})), ANN)
    await unsaved.add(SaveElement(Element("e", "t", "a", {"phase": "finished"})), ANN)
    await unsaved.add(SaveThread("t", True, name="first words"), ANN)
    await unsaved.add(SaveThread("t", False, metadata={"chat_profile": None}), ANN)
    await unsaved.add(SavePreferences("ann", {"temperature": 0.1}), ANN)
    await unsaved.add(SavePreferences("ann", {"temperature": 0.2}), ANN)
    assert unsaved.waiting == 7
    gate.away = False
    await all_kept(unsaved)
    kept = await threads.get("t")
    assert kept is not None
    assert await stored(threads) == [("q", "hello"), ("a", "Hello"), ("q2", "hello")]
    assert (kept.steps[1].metadata, kept.steps[1].created_at) == ({"one": 1, "two": 2}, "then")
    assert kept.steps[0].metadata == {"tokens": {"m": 2}}
    assert [element.content for element in kept.elements] == [{"phase": "finished"}]
    assert (kept.thread.name, kept.thread.metadata) == ("first words", {"chat_profile": None})


async def test_a_step_that_is_deleted_and_written_again_is_there(
    unsaved: Unsaved, threads: Threads, gate: Gate
) -> None:
    gate.away = True
    for write in (step("q"), step("a", "old"), DeleteStep("t", "a"), step("a", "new")):
        await unsaved.add(write, ANN)
    gate.away = False
    await all_kept(unsaved)
    assert await stored(threads) == [("q", "hello"), ("a", "new")]


async def test_a_write_that_is_being_made_is_not_changed_any_more(
    unsaved: Unsaved, threads: Threads, gate: Gate
) -> None:
    gate.hanging.clear()
    first = unsaved.add(step("a", "He"), ANN)
    while not gate.writes:
        await asyncio.sleep(0)
    second = unsaved.add(step("a", "Hello"), ANN)
    assert unsaved.waiting == 2
    gate.hanging.set()
    assert [await first, await second] == ["kept", "kept"]
    assert await stored(threads) == [("a", "Hello")]


async def test_a_database_that_hangs_holds_nobody_up_and_the_write_goes_on(
    unsaved: Unsaved, threads: Threads, gate: Gate
) -> None:
    gate.hanging.clear()
    unsaved._patience = 0.05
    assert await unsaved.add(step("q"), ANN) == "waiting"
    assert await unsaved.add(step("a"), ANN) == "waiting"
    assert unsaved.away_since is not None
    gate.hanging.set()
    await all_kept(unsaved)
    assert len(await stored(threads)) == 2


async def test_what_is_beyond_the_bound_is_lost_and_counted_and_what_waits_stays(
    unsaved: Unsaved, threads: Threads, gate: Gate
) -> None:
    told: list[tuple[Write, Fate]] = []
    unsaved.on_fate = lambda write, _, fate: told.append((write, fate))
    gate.away = True
    await unsaved.add(step("q", "x" * 6000), ANN)
    assert await unsaved.add(step("a", "y" * 6000), ANN) == "lost"
    assert await unsaved.add(step("q", "z" * 20_000), ANN) == "lost"
    assert await unsaved.add(step("b", "small"), ANN) == "waiting"
    assert (unsaved.waiting, unsaved.lost) == (2, 2)
    assert [fate for _, fate in told] == ["waiting", "lost", "lost", "waiting"]
    gate.away = False
    await all_kept(unsaved)
    assert await stored(threads) == [("q", "x" * 6000), ("b", "small")]
    assert await unsaved.add(step("a", "y" * 6000), ANN) == "kept"


async def test_a_write_that_can_never_be_made_is_lost_and_blocks_no_other(
    unsaved: Unsaved, threads: Threads, gate: Gate, database: Database, ann: Visitor
) -> None:
    bob = await Visitors(database).add("bob", {})
    await threads.save_step(step("bobs", thread_id="b").step, bob.id)
    told: list[tuple[str, Fate]] = []
    unsaved.on_fate = lambda write, _, fate: told.append((write.thread_id, fate))
    gate.away = True
    await unsaved.add(step("mine", thread_id="b"), ANN)
    await unsaved.add(step("q"), ANN)
    gate.away = False
    await all_kept(unsaved)
    assert unsaved.lost == 1
    assert told == [("b", "waiting"), ("t", "waiting"), ("b", "lost")]
    assert await stored(threads) == [("q", "hello")]
    assert await stored(threads, "b") == [("bobs", "hello")]


async def test_who_names_anothers_message_while_it_waits_changes_nothing_of_it(
    unsaved: Unsaved, threads: Threads, gate: Gate, ann: Visitor
) -> None:
    gate.away = True
    eve = Writer("eve")
    await unsaved.add(step("q", "Ann's"), ANN)
    await unsaved.add(step("q", "Eve's"), eve)
    await unsaved.add(DeleteStep("t", "q"), eve)
    assert unsaved.writer_of("t") is None
    assert [write.subject for write in unsaved.of("t", "ann")] == [("step", "q")]
    gate.away = False
    await all_kept(unsaved)
    assert await stored(threads) == [("q", "Ann's")]
    assert await threads.author("t") == "ann"
    assert unsaved.lost == 1


async def test_what_waits_for_a_conversation_that_is_deleted_is_made_no_more(
    unsaved: Unsaved, threads: Threads, gate: Gate
) -> None:
    gate.away = True
    await unsaved.add(step("q"), ANN)
    await unsaved.add(step("q", thread_id="other"), ANN)
    unsaved.forget("t")
    gate.away = False
    await threads.delete("t")
    await all_kept(unsaved)
    assert await unsaved.add(step("late", kind="assistant_message"), ANN) == "kept"
    assert await stored(threads) == []
    assert (unsaved.lost, unsaved.waiting) == (0, 0)
    assert await stored(threads, "other") == [("q", "hello")]


async def test_what_is_said_in_a_conversation_that_is_deleted_is_never_taken_for_kept(
    unsaved: Unsaved, threads: Threads
) -> None:
    told: list[Fate] = []
    unsaved.on_fate = lambda write, writer, fate: told.append(fate)
    await unsaved.add(step("q"), ANN)
    await threads.delete("t")
    assert await unsaved.add(step("more"), ANN) == "deleted"
    assert (told, unsaved.lost) == (["deleted"], 1)


async def test_nothing_of_a_visitor_waits_who_wants_nothing_kept(
    unsaved: Unsaved, threads: Threads, gate: Gate
) -> None:
    gate.away = True
    await unsaved.add(step("q"), ANN)
    await unsaved.add(SavePreferences("ann", {"temperature": 0}), ANN)
    await unsaved.add(step("q2", thread_id="bobs"), Writer("bob"))
    await unsaved.forget_all_of("ann")
    gate.away = False
    await all_kept(unsaved)
    assert await stored(threads) == []
    assert await stored(threads, "bobs") == [("q2", "hello")]
    assert (unsaved.lost, unsaved.waiting) == (0, 0)


async def test_at_the_end_what_waits_is_tried_and_what_is_left_is_counted(
    unsaved: Unsaved, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.away = True
    await unsaved.add(step("q"), ANN)
    await unsaved.add(step("a"), ANN)
    await unsaved.close(0.1)
    assert (unsaved.waiting, unsaved.lost) == (0, 2)
    assert "STORE 2 writes were not kept" in caplog.text


async def test_at_the_end_what_can_be_made_is(unsaved: Unsaved, threads: Threads, gate: Gate) -> None:
    gate.away = True
    for n in range(20):
        await unsaved.add(step(f"s{n}"), ANN)
    gate.away = False
    await unsaved.close(20)
    assert len(await stored(threads)) == 20
    assert unsaved.lost == 0


async def test_a_database_that_is_away_is_known_without_a_write(
    unsaved: Unsaved, database: Database, gate: Gate
) -> None:
    gate.away = True
    unsaved.wake()
    while unsaved.away_since is None:
        await asyncio.sleep(0)
    gate.away = False
    await all_kept(unsaved)


async def test_what_waits_shows_in_a_conversation_as_it_will_be(
    unsaved: Unsaved, threads: Threads, gate: Gate, database: Database, ann: Visitor
) -> None:
    await threads.save_step(step("q", "one").step, ann.id)
    await threads.save_step(step("old", "gone", "assistant_message").step, ann.id)
    await threads.save_element(Element("e", "t", "old", {}), ann.id)
    gate.away = True
    changes: list[Write] = [
        SaveThread("t", True, name="a name"),
        step("q", "one, edited"),
        DeleteStep("t", "old"),
        step("new", "two", "assistant_message"),
        SaveElement(Element("f", "t", "new", {"phase": "finished"})),
        SaveStepMetadata("t", "new", {"tokens": {"m": 1}}),
    ]
    for write in changes:
        await unsaved.add(write, ANN)
    expected = with_writes(await threads.get("t"), unsaved.of("t", "ann"), ANN)
    gate.away = False
    await all_kept(unsaved)
    kept = await threads.get("t")
    assert kept is not None
    assert expected is not None
    assert replace(expected, thread=replace(expected.thread, updated_at=kept.thread.updated_at)) == kept


# SQLite as it is in life


async def test_a_file_that_another_program_locks_for_long_keeps_writes_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "_BUSY_SECONDS", 0.5)
    database = Database.in_folder(tmp_path)
    await database.open()
    unsaved = Unsaved(Threads(database), Visitors(database), patience=0.1)
    other = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert await unsaved.add(step("q"), ANN) == "waiting"
    await asyncio.sleep(1)  # longer than SQLite itself waits
    assert unsaved.waiting == 1
    other.execute("ROLLBACK")
    other.close()
    await all_kept(unsaved)
    assert await stored(Threads(database)) == [("q", "hello")]
    assert unsaved.lost == 0
    await database.close()


@pytest.mark.parametrize(
    ("block", "unblock"),
    [
        ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"),
    ],
    ids=["read-only", "full"],
)
async def test_a_file_that_takes_no_writes_keeps_them_waiting(tmp_path: Path, block: str, unblock: str) -> None:
    database = Database.in_folder(tmp_path)
    await database.open()
    threads = Threads(database)
    unsaved = Unsaved(threads, Visitors(database), patience=30)
    assert await unsaved.add(step("q"), ANN) == "kept"
    async with database.read() as connection:
        await connection.exec_driver_sql(block)
    assert await unsaved.add(step("a", "x" * 100_000), ANN) == "waiting"
    async with database.read() as connection:
        await connection.exec_driver_sql(unblock)
    await all_kept(unsaved)
    assert await stored(threads) == [("q", "hello"), ("a", "x" * 100_000)]
    await database.close()
