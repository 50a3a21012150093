"""What is deleted by itself and what stays; what a visitor deletes; the room that both give back."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from app.storage import retention as retention_module
from app.storage.database import Database
from app.storage.erasing import erase
from app.storage.problems import DatabaseAway
from app.storage.records import Step, ThreadDeleted, Visitor
from app.storage.requests import Requests
from app.storage.retention import Retention
from app.storage.room import give_back, log_takes, rows_take, taken
from app.storage.tables import accounts, deleted_threads, devices, links, request_logs, threads, users
from app.storage.texts import new_id
from app.storage.threads import Threads
from app.storage.visitors import Visitors

KB = 1000
MB = 1_000_000


def ago(**time_ago: float) -> str:
    return (datetime.now(UTC) - timedelta(**time_ago)).isoformat(timespec="microseconds")


@pytest.fixture
async def ann(database: Database) -> Visitor:
    return await Visitors(database).add("anon-ann", {})


def keeper(database: Database, **more: Any) -> Retention:
    usual: dict[str, Any] = {"days": 0, "most_bytes": 0, "log_days": 0, "answering": list, "present": list}
    return Retention(database, **usual | more)


async def talk(database: Database, visitor: Visitor, thread_id: str, at: str, size: int = 10) -> None:
    text = "".join(chr(97 + (n * n + n) % 26) for n in range(size))
    await Threads(database).save_step(Step(f"q-{thread_id}", thread_id, output=text), visitor.id)
    async with database.write() as connection:
        await connection.execute(update(threads).where(threads.c.id == thread_id).values(updated_at=at))


async def talks(database: Database, visitor: Visitor) -> Sequence[str]:
    return sorted(await Threads(database).ids(visitor.id))


async def count(database: Database, table: Any) -> int:
    async with database.read() as connection:
        return len((await connection.execute(select(table))).all())


# Days


async def test_what_was_unused_for_so_many_days_goes(database: Database, ann: Visitor) -> None:
    await talk(database, ann, "old", ago(days=31))
    await talk(database, ann, "new", ago(days=29))
    told: list[str] = []
    pruned = await keeper(database, days=30, on_deleted=told.append).prune()
    assert str(pruned) == "1 conversations unused"
    assert await talks(database, ann) == ["new"]
    assert told == ["old"]


async def test_by_itself_nothing_goes(database: Database, ann: Visitor) -> None:
    await talk(database, ann, "old", ago(days=30_000))
    assert str(await keeper(database).prune()) == ""
    assert await talks(database, ann) == ["old"]


async def test_what_is_being_answered_stays(database: Database, ann: Visitor) -> None:
    await talk(database, ann, "old", ago(days=31))
    await talk(database, ann, "answering", ago(days=31))
    await keeper(database, days=30, answering=lambda: ["answering"]).prune()
    assert await talks(database, ann) == ["answering"]


async def test_who_goes_on_after_it_was_pruned_is_kept_again(database: Database, ann: Visitor) -> None:
    await talk(database, ann, "old", ago(days=31))
    await keeper(database, days=30).prune()
    await Threads(database).save_step(Step("next", "old", output="Still here"), ann.id)
    assert await talks(database, ann) == ["old"]


async def test_many_go_in_many_short_transactions(database: Database, ann: Visitor) -> None:
    for n in range(60):
        await talk(database, ann, f"t{n}", ago(days=31))
    waits = []

    async def chat() -> None:
        while True:
            begun = time.monotonic()
            await Visitors(database).save_preferences("anon-bob", {"temperature": len(waits) / 1000})
            waits.append(time.monotonic() - begun)
            await asyncio.sleep(0)

    chatting = asyncio.create_task(chat())
    pruned = await keeper(database, days=30).prune()
    chatting.cancel()
    await asyncio.wait({chatting})
    assert pruned.conversations_unused == 60
    assert len(waits) > 2  # others came in between


# The cap


async def test_over_the_cap_those_unused_longest_go(database: Database, ann: Visitor) -> None:
    for n in range(40):
        await talk(database, ann, f"t{n:02}", ago(days=60 - n), size=100 * KB)
    async with database.read() as connection:
        whole = await taken(database) if database.kind == "sqlite" else await rows_take(connection)
    pruned = await keeper(database, most_bytes=whole // 2).prune(daily=False)
    left = await talks(database, ann)
    assert pruned.conversations_over_the_cap == 40 - len(left)
    assert left == [f"t{n:02}" for n in range(40 - len(left), 40)]
    # What is measured has become less, or the next hour would delete again.
    again = await keeper(database, most_bytes=whole // 2).prune(daily=False)
    assert str(again) == ""


async def test_the_cap_spares_what_was_used_just_now_and_says_so(
    database: Database, ann: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    await talk(database, ann, "now", ago(minutes=10), size=200 * KB)
    await talk(database, ann, "answering", ago(hours=2), size=200 * KB)
    await talk(database, ann, "old", ago(hours=2), size=200 * KB)
    await keeper(database, most_bytes=1, answering=lambda: ["answering"]).prune(daily=False)
    assert await talks(database, ann) == ["answering", "now"]
    assert "STORE the database is over HISTORY_MAX_MB" in caplog.text


async def test_under_the_cap_nothing_goes(database: Database, ann: Visitor) -> None:
    await talk(database, ann, "old", ago(days=900), size=200 * KB)
    assert str(await keeper(database, most_bytes=100 * MB).prune()) == ""


async def test_no_conversation_goes_for_the_log_and_the_log_has_a_cap_of_its_own(
    database: Database, ann: Visitor
) -> None:
    for n in range(40):
        await talk(database, ann, f"t{n}", ago(days=2), size=50 * KB)
    async with database.read() as connection:
        whole = await taken(database) if database.kind == "sqlite" else await rows_take(connection)
    keep = keeper(database, most_bytes=whole + 150 * KB)
    figures = dict.fromkeys(("processing_time_ms", "queue_ms", "load_ms", "prompt_ms", "generation_ms"), 1.0)
    row = {"source": "api", "status": "failed", "response_tokens": 0, "left_out": 0, "input_text": "x" * 400, **figures}
    async with database.write() as connection:
        rows = [row | {"request_id": f"r{n:04}", "timestamp": ago(hours=1)} for n in range(2_000)]
        await connection.execute(insert(request_logs), rows)
    pruned = await keep.prune(daily=False)
    assert len(await talks(database, ann)) == 40
    left = 2_000 - pruned.requests_over_the_cap
    assert left == (500 if database.kind == "sqlite" else 0)  # PostgreSQL has made the conversations small
    assert await log_takes(database) <= (whole + 150 * KB) / 4
    assert [row.request_id for row in await Requests(database).newest(left)][::-1] == [
        f"r{n}" for n in range(2_000 - left, 2_000)
    ]
    assert str(await keep.prune(daily=False)) == ""


async def test_the_size_goes_down_when_something_is_deleted(database: Database, ann: Visitor) -> None:
    for n in range(10):
        await talk(database, ann, f"t{n}", ago(days=1), size=100 * KB)

    async def size() -> int:
        async with database.read() as connection:
            return await rows_take(connection) if database.kind == "postgresql" else await taken(database)

    before = await size()
    assert before > 10 * 50 * KB or database.kind == "postgresql"
    await erase(database, ann.id)
    assert await size() < before / 4


# SQLite's file


def in_mb(folder: Path) -> float:
    return (folder / "chat.db").stat().st_size / MB


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_the_file_becomes_smaller(database: Database, ann: Visitor, tmp_path: Path) -> None:
    for n in range(30):
        await talk(database, ann, f"t{n}", ago(days=31), size=MB)
    await keeper(database, days=30).prune()
    await database.close()
    assert in_mb(tmp_path) < 6  # a thousand free pages are kept for what comes next


async def test_a_file_of_before_becomes_one_that_gives_back(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "chat.db") as old:
        old.execute("PRAGMA auto_vacuum=NONE")
        old.execute("CREATE TABLE scratch (n)")
        old.execute("INSERT INTO scratch VALUES (zeroblob(20000000))")
        old.execute("DELETE FROM scratch")
    old.close()
    database = Database.in_folder(tmp_path)
    await database.open()
    await give_back(database)
    async with database.read() as connection:
        assert (await connection.exec_driver_sql("PRAGMA auto_vacuum")).scalar() == 2
    await database.close()
    assert in_mb(tmp_path) < 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_what_was_deleted_is_not_in_the_file(database: Database, ann: Visitor, tmp_path: Path) -> None:
    await Threads(database).save_step(Step("q", "t", output="my diary"), ann.id)
    await Threads(database).delete("t")
    await database.close()
    assert b"my diary" not in (tmp_path / "chat.db").read_bytes()


# What else has served its purpose


async def test_marks_links_and_the_log_go(database: Database, ann: Visitor) -> None:
    link = {"user_id": ann.id, "created_at": ago(days=9)}
    request = {
        "source": "page",
        "status": "finished",
        "processing_time_ms": 1,
        "queue_ms": 0,
        "load_ms": 0,
        "prompt_ms": 0,
        "generation_ms": 1,
        "response_tokens": 3,
        "left_out": 0,
    }
    async with database.write() as connection:
        for n, days in enumerate((29, 31, 400)):
            await connection.execute(insert(deleted_threads).values(id=f"t{n}", deleted_at=ago(days=days)))
            await connection.execute(
                insert(request_logs).values(request_id=f"r{n}", timestamp=ago(days=days), **request)
            )
        for n, hours in enumerate((-1, 1)):
            await connection.execute(
                insert(links).values(id=f"l{n}", secret_hash=f"{n}", expires_at=ago(hours=hours), **link)
            )
    pruned = await keeper(database, log_days=30).prune()
    assert str(pruned) == "1 links, 2 requests, 2 deleted marks"
    assert [await count(database, table) for table in (links, request_logs, deleted_threads)] == [1, 1, 1]


async def test_visitors_who_left_nothing_go(database: Database) -> None:
    visitors = Visitors(database)
    old = {}
    kept = ["talked", "set", "linked", "shown", "ended", "present"]
    for name in ("empty", *kept):
        old[name] = await visitors.add(f"anon-{name}", {"left_behind": True} if name == "empty" else {})
    old["account"] = await visitors.add("account-1", {})
    old["oauth"] = await visitors.add("github:ann", {})
    await visitors.save_preferences("anon-set", {"temperature": 0.3})
    await talk(database, old["talked"], "t", ago(days=40))
    async with database.write() as connection:
        await connection.execute(
            insert(links).values(
                id="l", user_id=old["linked"].id, secret_hash="x", created_at=ago(days=1), expires_at=ago(days=-1)
            )
        )
        await connection.execute(
            insert(devices).values(
                id="d", identifier="anon-other", user_id=old["shown"].id, name="x", joined_at=ago(days=1)
            )
        )
        await connection.execute(
            insert(accounts).values(
                user_id=old["account"].id,
                name="ann",
                password_hash="x",
                role="user",
                disabled=False,
                created_at=ago(days=40),
                password_changed_at=ago(days=40),
            )
        )
        await connection.execute(update(users).where(users.c.identifier == "anon-ended").values(token_version=1))
        await connection.execute(update(users).values(created_at=ago(days=31)))
    await visitors.add("anon-new", {})
    pruned = await keeper(database, present=lambda: ["anon-present"]).prune()
    assert pruned.visitors == 1
    async with database.read() as connection:
        left = set((await connection.execute(select(users.c.identifier))).scalars())
    assert left == {"account-1", "github:ann", "anon-new", *(f"anon-{name}" for name in kept)}


# By itself


async def test_it_begins_at_the_start_and_tells_what_it_has_done(
    database: Database, ann: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await talk(database, ann, "old", ago(days=31))
    running = asyncio.create_task(keeper(database, days=30).run())
    while await talks(database, ann):
        await asyncio.sleep(0.01)
    while "STORE deleted: 1 conversations unused" not in caplog.text:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})


async def test_a_database_that_is_away_is_asked_again_later(
    database: Database, ann: Visitor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention_module, "_HOUR", 0.01)
    keeps = keeper(database, days=30)
    prune, tries = keeps.prune, 0

    async def away_at_first(*, daily: bool = True) -> Any:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise DatabaseAway("gone for lunch")
        return await prune(daily=daily)

    monkeypatch.setattr(keeps, "prune", away_at_first)
    await talk(database, ann, "old", ago(days=31))
    running = asyncio.create_task(keeps.run())
    while await talks(database, ann):
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})
    assert caplog.text.count("gone for lunch") == 1


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_one_replica_at_a_time_prunes(database: Database, database_url: str, ann: Visitor) -> None:
    other = Database(database_url)
    async with database.first_of_replicas(retention_module._LOCK) as first:
        assert first
        async with other.first_of_replicas(retention_module._LOCK) as second:
            assert not second
    async with other.first_of_replicas(retention_module._LOCK) as again:
        assert again
    await other.close()


# All of a visitor's


async def test_a_visitors_data_go_and_nobody_elses(database: Database, ann: Visitor) -> None:
    bob = await Visitors(database).add("anon-bob", {})
    kept = Threads(database)
    for visitor, thread_id in ((ann, "t1"), (ann, "t2"), (bob, "t3")):
        await kept.save_step(Step(f"a-{thread_id}", thread_id, output="hello"), visitor.id)
        await kept.save_thumb(f"a-{thread_id}", 1, "good")
        await Visitors(database).save_preferences(visitor.identifier, {"temperature": 0.3})
        async with database.write() as connection:
            known = {"user_id": visitor.id, "id": new_id()}
            await connection.execute(
                insert(links).values(secret_hash=thread_id, created_at=ago(days=1), expires_at=ago(days=-1), **known)
            )
            await connection.execute(
                insert(devices).values(identifier=f"anon-{thread_id}", name="x", joined_at=ago(days=1), **known)
            )
    assert await erase(database, ann.id) == 2
    assert await talks(database, ann) == []
    assert await talks(database, bob) == ["t3"]
    assert [await count(database, table) for table in (links, devices)] == [1, 1]
    assert await Visitors(database).preferences("anon-ann") == {}
    assert await Visitors(database).preferences("anon-bob") == {"temperature": 0.3}
    with pytest.raises(ThreadDeleted):
        await kept.save_step(Step("late", "t1", output="late"), ann.id)
    await kept.save_step(Step("new", "t4", output="hello again"), ann.id)
    assert await talks(database, ann) == ["t4"]


async def test_who_has_nothing_can_delete_it(database: Database, ann: Visitor) -> None:
    assert await erase(database, ann.id) == 0
