"""Ten thousand conversations of one visitor: what the database does for the list, and what the page is answered.

Times are measured by `make bench`; here it is counted how many rows are looked at, which no busy machine changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from app.storage.database import Database
from app.storage.threads import Threads
from app.storage.visitors import Visitors
from tests.many import fill

COUNT = 10_000
PAGE = 35


@pytest.fixture
async def threads(database: Database, database_url: str) -> Threads:
    await fill(database_url, "ann", COUNT)
    await fill(database_url, "bob", 50)
    return Threads(database)


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """The SELECTs that are sent to the database meanwhile, with their values."""
    seen: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    engine = database._engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


async def plan(database: Database, statement: str, parameters: Any) -> str:
    """How the database answers it: its steps, and with PostgreSQL the rows that each has really seen."""
    async with database.read() as connection:
        if connection.dialect.name == "sqlite":
            rows = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            return "\n".join(row[-1] for row in rows)
        found = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
        text: Any = found.scalar()
        return text if isinstance(text, str) else json.dumps(text)


def rows_of(steps: str) -> list[int]:
    """The rows that each step of PostgreSQL's plan has looked at: those that it passed on, and the others."""
    return [int(float(count)) for count in re.findall(r'"(?:Actual Rows|Rows Removed by \w+)": ([\d.]+)', steps)]


async def test_the_list_is_read_from_its_index_and_no_further_than_the_page(
    database: Database, threads: Threads
) -> None:
    ann = await Visitors(database).add("ann", {})
    with statements(database) as seen:
        first = await threads.list(ann.id, first=PAGE)
        second = await threads.list(ann.id, first=PAGE, cursor=first.next_cursor)
    assert [thread.name for thread in first.threads] == [f"Conversation {COUNT - 1 - n}" for n in range(PAGE)]
    assert second.threads[0].name == f"Conversation {COUNT - 1 - PAGE}"
    assert len(seen) == 2
    for statement, parameters in seen:
        steps = await plan(database, statement, parameters)
        assert "threads_by_user" in steps
        # What is sorted is at most what was used at one and the same moment.
        assert "TEMP B-TREE FOR ORDER BY" not in steps
        assert all(count <= 3 * PAGE for count in rows_of(steps))


async def test_a_conversation_is_read_by_its_own_rows_alone(database: Database, threads: Threads) -> None:
    ann = await Visitors(database).add("ann", {})
    newest = (await threads.list(ann.id, first=1)).threads[0]
    with statements(database) as seen:
        conversation = await threads.get(newest.id)
    assert conversation is not None
    assert len(conversation.steps) == 2
    for statement, parameters in seen:
        steps = await plan(database, statement, parameters)
        assert "SCAN" not in steps
        assert all(count <= 10 for count in rows_of(steps))


@pytest.mark.parametrize(("part", "found"), [("CONVERSATION 9999", 1), ("of conversation 77?", 1), ("nowhere said", 0)])
async def test_what_was_said_is_found_among_all(database: Database, threads: Threads, part: str, found: int) -> None:
    ann = await Visitors(database).add("ann", {})
    assert len((await threads.list(ann.id, first=PAGE, search=part)).threads) == found
