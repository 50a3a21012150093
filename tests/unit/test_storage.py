"""The database, on a real SQLite file: what is kept, for whom, in which order."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from app.storage import connect
from app.storage.database import Database
from app.storage.problems import DatabaseAway
from app.storage.records import Element, Step, Thread, ThreadDeleted, Visitor
from app.storage.texts import storable
from app.storage.threads import Threads, thread_name
from app.storage.visitors import Visitors


@pytest.fixture
def threads(database: Database) -> Threads:
    return Threads(database)


@pytest.fixture
def visitors(database: Database) -> Visitors:
    return Visitors(database)


@pytest.fixture
async def ann(visitors: Visitors) -> Visitor:
    return await visitors.add("ann", {})


@pytest.fixture
async def bob(visitors: Visitors) -> Visitor:
    return await visitors.add("bob", {})


def said(thread_id: str, step_id: str, text: str = "hello", **more: Any) -> Step:
    return Step(id=step_id, thread_id=thread_id, type="user_message", output=text, **more)


def element(thread_id: str, element_id: str, step_id: str = "q") -> Element:
    return Element(element_id, thread_id, step_id, {"id": element_id, "type": "custom", "props": {"seconds": 1.5}})


async def texts(threads: Threads, thread_id: str) -> list[str]:
    conversation = await threads.get(thread_id)
    return [step.output for step in conversation.steps] if conversation else []


async def names(threads: Threads, visitor: Visitor, search: str | None = None) -> list[str | None]:
    return [thread.name for thread in (await threads.list(visitor.id, first=100, search=search)).threads]


# Opening


def rights_of_files(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    database = Database.in_folder(tmp_path)
    await database.open()
    rights = rights_of_files(tmp_path)
    assert "chat.db" in rights
    assert set(rights.values()) == {0o600}
    await database.close()


async def test_a_database_is_opened_again_with_what_is_in_it(
    database: Database, database_url: str, ann: Visitor
) -> None:
    await Threads(database).save_step(said("t", "q"), ann.id)
    await database.close()
    again = Database(database_url)
    await again.open()
    assert await texts(Threads(again), "t") == ["hello"]
    await again.close()


async def test_two_connections_may_open_a_new_database_at_once(database_url: str) -> None:
    both = [Database(database_url) for _ in range(2)]
    await asyncio.gather(*(one.open() for one in both))
    for one in both:
        await one.close()


async def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        await Database.in_folder(tmp_path / "missing").open()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_foreign_keys_count_and_the_log_is_written_ahead(database: Database) -> None:
    async with database.read() as connection:
        assert (await connection.exec_driver_sql("PRAGMA foreign_keys")).scalar() == 1
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar() == "wal"
        assert (await connection.exec_driver_sql("PRAGMA busy_timeout")).scalar() == 5000


async def test_a_write_that_breaks_leaves_nothing_behind(database: Database) -> None:
    async with database.write() as connection:
        await connection.exec_driver_sql("CREATE TABLE scratch (n INTEGER NOT NULL)")

    async def break_off() -> None:
        async with database.write() as connection:
            await connection.exec_driver_sql("INSERT INTO scratch VALUES (1)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    async with database.read() as connection:
        assert (await connection.exec_driver_sql("SELECT * FROM scratch")).all() == []


async def test_what_people_wrote_is_not_in_an_error(database: Database, threads: Threads, ann: Visitor) -> None:
    async with database.write() as connection:
        await connection.exec_driver_sql("ALTER TABLE steps RENAME TO gone")
    with pytest.raises(DBAPIError) as failure:
        await threads.save_step(said("t", "q", "my diary"), ann.id)
    assert "my diary" not in str(failure.value)


async def test_a_database_that_another_program_has_locked_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "_BUSY_SECONDS", 0.1)
    database = Database.in_folder(tmp_path)
    await database.open()
    other = sqlite3.connect(tmp_path / "chat.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseAway, match="database is locked"):
        await Visitors(database).add("ann", {})
    other.execute("ROLLBACK")
    other.close()
    assert (await Visitors(database).add("ann", {})).identifier == "ann"
    await database.close()


async def test_a_disk_that_is_full_is_away_until_there_is_room(tmp_path: Path) -> None:
    database = Database.in_folder(tmp_path)
    ann = await Visitors(database).add("ann", {})
    threads = Threads(database)
    async with database.read() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar()
        await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(DatabaseAway, match="full"):
        await threads.save_step(said("t", "q", "x" * 100_000), ann.id)
    async with database.read() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    await threads.save_step(said("t", "q", "x" * 100_000), ann.id)
    assert len((await texts(threads, "t"))[0]) == 100_000
    await database.close()


# Whose


async def test_two_visitors_never_see_each_others_threads(threads: Threads, ann: Visitor, bob: Visitor) -> None:
    await threads.save("a", ann.id, name="Ann's")
    await threads.save_step(said("a", "qa", "tulips"), ann.id)
    await threads.save("b", bob.id, name="Bob's")
    assert await names(threads, ann) == ["Ann's"]
    assert await names(threads, bob) == ["Bob's"]
    assert await names(threads, bob, "tulips") == []
    assert (await threads.author("a"), await threads.author("b")) == ("ann", "bob")


async def test_a_step_and_a_thumb_are_their_threads_visitors(threads: Threads, ann: Visitor) -> None:
    await threads.save_step(said("a", "q"), ann.id)
    thumb = await threads.save_thumb("q", 1, None)
    assert (await threads.step_author("q"), await threads.thumb_author(thumb)) == ("ann", "ann")
    assert (await threads.step_author("nothing"), await threads.thumb_author("nothing")) == ("", "")


async def test_an_unknown_thread_has_no_author(threads: Threads) -> None:
    assert await threads.author("nowhere") == ""
    assert await threads.get("nowhere") is None


async def test_nobody_writes_into_anothers_conversation(threads: Threads, ann: Visitor, bob: Visitor) -> None:
    await threads.save_step(said("a", "q"), ann.id)
    await threads.save_element(element("a", "e"), ann.id)
    with pytest.raises(PermissionError):
        await threads.save_step(said("a", "new"), bob.id)
    with pytest.raises(PermissionError):
        await threads.save_step(said("a", "q", "changed"), bob.id)
    with pytest.raises(PermissionError):
        await threads.save_step(said("b", "q", "moved"), bob.id)
    with pytest.raises(PermissionError):
        await threads.save_element(element("a", "mine"), bob.id)
    with pytest.raises(PermissionError):
        await threads.save_element(element("b", "e"), bob.id)
    with pytest.raises(PermissionError):
        await threads.save("a", bob.id, name="mine now")
    await threads.save("a", bob.id, make=False, name="mine now", metadata={"x": 1}, tags=["x"])
    await threads.save_step_metadata("q", {"tokens": {"m": 1}}, bob.id)
    await threads.delete_step("q", bob.id)
    await threads.delete_element("a", "e", bob.id)
    kept = await threads.get("a")
    assert kept is not None
    assert (kept.thread.name, kept.thread.metadata, kept.thread.tags) == (None, {}, [])
    assert kept.steps[0].metadata == {}
    assert [step.output for step in kept.steps] == ["hello"]
    assert [shown.id for shown in kept.elements] == ["e"]
    assert kept.thread.name is None


async def test_an_element_is_found_in_its_own_thread_only(threads: Threads, ann: Visitor, bob: Visitor) -> None:
    await threads.save_element(element("a", "e"), ann.id)
    await threads.save("b", bob.id)
    assert await threads.element("a", "e") == element("a", "e")
    assert await threads.element("b", "e") is None


# What is kept


async def test_a_conversation_comes_back_as_it_was(threads: Threads, ann: Visitor) -> None:
    step = Step(
        id="q",
        thread_id="t",
        parent_id="p",
        type="user_message",
        name="You",
        input="in",
        output="out",
        is_error=True,
        metadata={"tokens": {"m": 3}},
        display={"language": "python"},
        created_at="2026-01-01T00:00:00Z",
        started_at="2026-01-01T00:00:01Z",
        ended_at="2026-01-01T00:00:02Z",
    )
    await threads.save("t", ann.id, name="A name", metadata={"env": {}}, tags=["x"])
    await threads.save_step(step, ann.id)
    await threads.save_element(element("t", "e"), ann.id)
    thumb = await threads.save_thumb("q", 1, "good")
    kept = await threads.get("t")
    assert kept is not None
    assert kept.steps == (step,)
    assert kept.elements == (element("t", "e"),)
    assert kept.thumbs["q"].id == thumb
    assert (kept.thumbs["q"].value, kept.thumbs["q"].comment) == (1, "good")
    assert kept.thread == Thread(
        id="t",
        user_id=ann.id,
        visitor="ann",
        name="A name",
        metadata={"env": {}},
        tags=["x"],
        created_at=kept.thread.created_at,
        updated_at=kept.thread.updated_at,
    )
    assert kept.thread.created_at.endswith("+00:00")


async def test_steps_may_come_before_their_thread_has_a_name(threads: Threads, ann: Visitor) -> None:
    await threads.save_step(said("t", "q"), ann.id)
    await threads.save("t", ann.id, name="later")
    assert await names(threads, ann) == ["later"]
    assert await texts(threads, "t") == ["hello"]


async def test_steps_that_are_written_at_once_keep_the_order_in_which_they_came(threads: Threads, ann: Visitor) -> None:
    writes = [threads.save_step(said("t", f"s{n}", str(n)), ann.id) for n in range(40)]
    writes.insert(20, threads.save("t", ann.id, name="name"))
    await asyncio.gather(*writes)
    assert await texts(threads, "t") == [str(n) for n in range(40)]


async def test_two_programs_that_write_at_once_both_succeed(threads: Threads, database_url: str, ann: Visitor) -> None:
    other = Database(database_url)
    both = (threads, Threads(other))
    await threads.save_step(said("t", "q"), ann.id)
    await asyncio.gather(
        *(both[n % 2].save_step_metadata("q", {str(n): n}, ann.id) for n in range(40)),
        *(both[n % 2].save_step(said("t", f"s{n}"), ann.id) for n in range(40)),
    )
    kept = await threads.get("t")
    assert kept is not None
    assert len(kept.steps) == 41
    assert kept.steps[0].metadata == {str(n): n for n in range(40)}
    await other.close()


async def test_a_steps_new_state_keeps_its_place_and_its_metadata(threads: Threads, ann: Visitor) -> None:
    await threads.save_step(said("t", "q", "one", metadata={"a": 1}, created_at="2026-01-01T00:00:00Z"), ann.id)
    await threads.save_step(said("t", "r", "two"), ann.id)
    await threads.save_step(said("t", "q", "one, edited", metadata={"b": 2}), ann.id)
    kept = await threads.get("t")
    assert kept is not None
    assert [step.output for step in kept.steps] == ["one, edited", "two"]
    assert kept.steps[0].metadata == {"a": 1, "b": 2}
    assert kept.steps[0].created_at == "2026-01-01T00:00:00Z"


async def test_an_elements_new_state_takes_the_old_ones_place(threads: Threads, ann: Visitor) -> None:
    await threads.save_element(element("t", "e"), ann.id)
    changed = Element("e", "t", "q", {"id": "e", "props": {"seconds": 2}})
    await threads.save_element(changed, ann.id)
    kept = await threads.get("t")
    assert kept is not None
    assert kept.elements == (changed,)


async def test_a_threads_metadata_is_merged_and_its_name_stays(threads: Threads, ann: Visitor) -> None:
    await threads.save("t", ann.id, name="name", metadata={"a": 1, "b": 1})
    await threads.save("t", None, metadata={"b": 2})
    (thread,) = (await threads.list(ann.id, first=1)).threads
    assert (thread.name, thread.metadata) == ("name", {"a": 1, "b": 2})


async def test_a_thumb_takes_the_place_of_the_one_before(threads: Threads, ann: Visitor) -> None:
    await threads.save_step(said("t", "q"), ann.id)
    await threads.save_thumb("q", 1, None)
    second = await threads.save_thumb("q", 0, "no")
    kept = await threads.get("t")
    assert kept is not None
    assert (kept.thumbs["q"].id, kept.thumbs["q"].value) == (second, 0)
    assert await threads.delete_thumb(second)
    assert not await threads.delete_thumb(second)


async def test_a_thumb_for_a_message_that_is_not_there_is_refused(threads: Threads) -> None:
    with pytest.raises(LookupError):
        await threads.save_thumb("nothing", 1, None)


BROKEN = "before\0 \ud800 between \ud83d\ude00 after"
MENDED = "before � between 😀 after"


def test_numbers_that_are_none_become_none() -> None:
    assert storable([float("nan"), float("inf"), 1.5, 3, True]) == [None, None, 1.5, 3, True]


async def test_an_id_that_no_database_takes_is_looked_for_without_an_error(threads: Threads, ann: Visitor) -> None:
    await threads.save("t", ann.id)
    for odd in ("x\0y", "\ud800", "x" * 100_000, "😀"):
        assert await threads.get(odd) is None
        assert await threads.author(odd) == ""
        assert await threads.element("t", odd) is None
        await threads.delete_step(odd, ann.id)
        await threads.delete(odd)


async def test_ids_and_types_may_be_longer_than_those_of_the_page(threads: Threads, ann: Visitor) -> None:
    step = Step(id="q" * 200, thread_id="t" * 200, type="y" * 200, created_at="2" * 200)
    await threads.save_step(step, ann.id)
    kept = await threads.get("t" * 200)
    assert kept is not None
    assert kept.steps == (step,)


def test_nul_and_broken_surrogates_are_taken_out_and_the_rest_stays() -> None:
    assert storable({BROKEN: [BROKEN, 1, None, (BROKEN,)]}) == {MENDED: [MENDED, 1, None, [MENDED]]}
    assert storable("\ufeffРусский 👩‍👩‍👧 \u202e") == "\ufeffРусский 👩‍👩‍👧 \u202e"


async def test_nul_and_broken_surrogates_break_no_write(threads: Threads, visitors: Visitors) -> None:
    eve = await visitors.add("eve", {"note": BROKEN})
    await threads.save("t", eve.id, name=BROKEN, metadata={"x": BROKEN}, tags=[BROKEN])
    await threads.save_step(said("t", "q", BROKEN, metadata={"x": BROKEN}), eve.id)
    await threads.save_step_metadata("q", {"y": BROKEN}, eve.id)
    await threads.save_element(Element("e", "t", "q", {"props": BROKEN}), eve.id)
    await threads.save_thumb("q", 1, BROKEN)
    await visitors.save_preferences("eve", {"system_prompt": BROKEN})
    kept = await threads.get("t")
    assert kept is not None
    assert (kept.thread.name, kept.thread.metadata, kept.thread.tags) == (MENDED, {"x": MENDED}, [MENDED])
    assert (kept.steps[0].output, kept.steps[0].metadata) == (MENDED, {"x": MENDED, "y": MENDED})
    assert kept.elements[0].content == {"props": MENDED}
    assert kept.thumbs["q"].comment == MENDED
    assert await visitors.preferences("eve") == {"system_prompt": MENDED}
    assert await names(threads, eve, BROKEN) == [MENDED]


# The list


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("  How do\n\nI  cook rice?\t", "How do I cook rice?"),
        ("x" * 80, "x" * 80),
        ("word " * 40, ("word " * 16)[:79].rstrip() + "…"),
        ("", ""),
    ],
)
def test_a_name_is_the_first_messages_beginning_on_one_line(message: str, name: str) -> None:
    assert thread_name(message) == name
    assert len(thread_name(message)) <= 80


async def test_the_thread_that_was_used_last_comes_first(threads: Threads, ann: Visitor) -> None:
    for name in ("one", "two", "three"):
        await threads.save(name, ann.id, name=name)
    await threads.save_step(said("one", "q"), ann.id)
    assert await names(threads, ann) == ["one", "three", "two"]


async def test_pages_follow_each_other_without_gap_or_repetition(threads: Threads, ann: Visitor) -> None:
    for n in range(7):
        await threads.save(f"t{n}", ann.id, name=str(n))
    seen: list[str | None] = []
    cursor: str | None = None
    sizes = []
    while True:
        page = await threads.list(ann.id, first=3, cursor=cursor)
        seen += [thread.name for thread in page.threads]
        sizes.append(len(page.threads))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]
    assert sizes == [3, 3, 1]


async def test_a_page_may_end_where_the_list_ends(threads: Threads, ann: Visitor) -> None:
    for n in range(3):
        await threads.save(f"t{n}", ann.id)
    assert (await threads.list(ann.id, first=3)).next_cursor is None


@pytest.mark.parametrize("first", [0, -5])
async def test_a_page_has_one_thread_at_least(threads: Threads, ann: Visitor, first: int) -> None:
    for n in range(3):
        await threads.save(f"t{n}", ann.id)
    assert len((await threads.list(ann.id, first=first)).threads) == 1


async def test_a_page_has_a_hundred_threads_at_most(database: Database, threads: Threads, ann: Visitor) -> None:
    for n in range(101):
        await threads.save(f"t{n}", ann.id)
    assert len((await threads.list(ann.id, first=10**9)).threads) == 100


@pytest.mark.parametrize("cursor", ["nonsense", "MQ==", "W10=", "é", "bnVsbA=="])
async def test_a_cursor_that_is_not_ours_is_refused(threads: Threads, ann: Visitor, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await threads.list(ann.id, first=3, cursor=cursor)


@pytest.mark.parametrize("search", ["ПРИВЕТ", "привет", "иВе", "STRASSE", "straße", "и\u0306", "100%", "_"])
async def test_a_search_finds_part_of_a_name_whatever_its_case(threads: Threads, ann: Visitor, search: str) -> None:
    await threads.save("t", ann.id, name="Привет, мой мир: Straße, 100% a_b")
    await threads.save("other", ann.id, name="Something else")
    assert await names(threads, ann, search) == ["Привет, мой мир: Straße, 100% a_b"]


async def test_a_search_finds_what_was_said(threads: Threads, ann: Visitor) -> None:
    await threads.save("t", ann.id, name="name")
    await threads.save_step(said("t", "q", "Где растут ТЮЛЬПАНЫ?"), ann.id)
    assert await names(threads, ann, "тюльпаны") == ["name"]
    assert await names(threads, ann, "розы") == []


@pytest.mark.parametrize("search", ["x" * 200_000, "%" * 60_000])
async def test_a_search_may_be_of_any_length(threads: Threads, ann: Visitor, search: str) -> None:
    await threads.save("t", ann.id, name="name")
    assert await names(threads, ann, search) == []


async def test_the_list_can_be_of_threads_with_a_thumb(threads: Threads, ann: Visitor) -> None:
    for thread_id in ("up", "none"):
        await threads.save_step(said(thread_id, f"q-{thread_id}"), ann.id)
    await threads.save_thumb("q-up", 1, None)
    assert [thread.id for thread in (await threads.list(ann.id, first=9, thumb=1)).threads] == ["up"]
    assert (await threads.list(ann.id, first=9, thumb=0)).threads == ()


# Deleting


async def test_a_deleted_thread_takes_all_that_belongs_to_it_along(
    database: Database, threads: Threads, ann: Visitor
) -> None:
    await threads.save_step(said("t", "q"), ann.id)
    await threads.save_element(element("t", "e"), ann.id)
    await threads.save_thumb("q", 1, None)
    await threads.delete("t")
    async with database.read() as connection:
        for table in ("threads", "steps", "elements", "feedback"):
            assert (await connection.exec_driver_sql(f"SELECT count(*) FROM {table}")).scalar() == 0


async def test_what_comes_late_for_a_deleted_thread_does_not_bring_it_back(threads: Threads, ann: Visitor) -> None:
    await threads.save_step(said("t", "q"), ann.id)
    await threads.delete("t")
    with pytest.raises(ThreadDeleted):
        await threads.save_step(said("t", "q", "edited"), ann.id)
    with pytest.raises(ThreadDeleted):
        await threads.save_step(said("t", "a", "the reply"), ann.id)
    with pytest.raises(ThreadDeleted):
        await threads.save_element(element("t", "e"), ann.id)
    with pytest.raises(ThreadDeleted):
        await threads.save("t", ann.id, name="again")
    await threads.save("t", None, name="renamed", metadata={"x": 1})
    await threads.save_step_metadata("q", {"tokens": {}}, ann.id)
    assert await threads.get("t") is None
    assert await names(threads, ann) == []


async def test_a_deleted_step_takes_its_elements_and_thumb_along(threads: Threads, ann: Visitor) -> None:
    await threads.save_step(said("t", "q"), ann.id)
    await threads.save_step(said("t", "r", "stays"), ann.id)
    await threads.save_element(element("t", "e", "q"), ann.id)
    await threads.save_element(element("t", "f", "r"), ann.id)
    await threads.save_thumb("q", 1, None)
    await threads.delete_step("q", ann.id)
    kept = await threads.get("t")
    assert kept is not None
    assert [step.output for step in kept.steps] == ["stays"]
    assert [shown.id for shown in kept.elements] == ["f"]
    assert kept.thumbs == {}


async def test_a_deleted_element_is_gone(threads: Threads, ann: Visitor) -> None:
    await threads.save_element(element("t", "e"), ann.id)
    await threads.delete_element("t", "e", ann.id)
    assert await threads.element("t", "e") is None


# Visitors


async def test_a_visitor_who_comes_twice_at_once_is_one(visitors: Visitors) -> None:
    found = await asyncio.gather(*(visitors.add("ann", {str(n): n}) for n in range(5)))
    assert len({visitor.id for visitor in found}) == 1
    kept = await visitors.get("ann")
    assert kept is not None
    assert kept.metadata == {str(n): n for n in range(5)}


async def test_an_unknown_visitor_has_set_nothing(visitors: Visitors) -> None:
    assert await visitors.get("nobody") is None
    assert await visitors.preferences("nobody") == {}


async def test_preferences_are_kept_by_visitor(visitors: Visitors) -> None:
    await visitors.save_preferences("ann", {"temperature": 0.1, "model": "a"})
    await visitors.save_preferences("bob", {"temperature": 0.9})
    await visitors.save_preferences("ann", {"temperature": 0.2})
    await visitors.add("ann", {"provider": "header"})
    assert await visitors.preferences("ann") == {"temperature": 0.2}
    assert await visitors.preferences("bob") == {"temperature": 0.9}
