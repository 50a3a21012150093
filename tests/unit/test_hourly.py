"""The log of requests by the hour: the database counts as we do, on what it has and on what is in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from app.stats import Stats
from app.storage.database import Database
from app.storage.hourly import Hourly, HourlyLog, Ranks
from app.storage.requests import RequestRow, Requests
from tests.log_rows import busy_week, row

NOW = datetime(2026, 11, 21, 19, 30, tzinfo=UTC)
LONG_AGO = "2020"


async def logged(
    database: Database, rows: Sequence[RequestRow], *, most: int = 100_000, since: str = LONG_AGO
) -> Hourly:
    if rows:
        await Requests(database).add(rows)
    return await HourlyLog(database, most).since(since)


async def test_replies_are_counted_by_hour_model_and_outcome(database: Database) -> None:
    before = NOW - timedelta(hours=1)
    failed = {"status": "failed", "engine": None, "model_name": None, "prompt_tokens": None, "response_tokens": 0}
    found = await logged(
        database,
        [
            row(before),
            row(NOW, left_out=3),
            row(NOW, response_tokens=10, generation_ms=500.0),
            row(NOW, status="stopped", response_tokens=7),
            row(NOW, **failed, time_to_first_token_ms=None),
        ],
    )
    counted = {(one.hour, one.model, one.outcome): one for one in found.models}
    gemma = "ollama/gemma2:2b"
    assert {key: one.replies for key, one in counted.items()} == {
        ("2026-11-21T18", gemma, "finished"): 1,
        ("2026-11-21T19", gemma, "finished"): 2,
        ("2026-11-21T19", gemma, "stopped"): 1,
        ("2026-11-21T19", "", "failed"): 1,
    }
    finished = counted["2026-11-21T19", gemma, "finished"]
    assert (finished.prompt_tokens, finished.response_tokens, finished.left_out) == (200, 50, 1)
    assert (finished.timed_tokens, finished.timed_ms) == (50, 4500)
    stopped = counted["2026-11-21T19", gemma, "stopped"]
    assert (stopped.response_tokens, stopped.timed_tokens) == (7, 0)
    assert found.whole


async def test_percentiles_are_times_that_were_there(database: Database) -> None:
    rows = [row(NOW, time_to_first_token_ms=float(number), queue_ms=number * 10.0) for number in range(1, 201)]
    rows.append(row(NOW - timedelta(hours=2), time_to_first_token_ms=7.0))
    found = await logged(database, rows)
    assert found.first_ms == {"2026-11-21T19": Ranks(100, 190, 198), "2026-11-21T17": Ranks(7, 7, 7)}
    assert found.waiting_ms["2026-11-21T19"] == Ranks(1000, 1900, 1980)


async def test_who_was_refused_at_once_has_not_waited(database: Database) -> None:
    refused = row(NOW, status="failed", time_to_first_token_ms=None)
    left = row(NOW, status="stopped", time_to_first_token_ms=None, queue_ms=9000.0)
    found = await logged(database, [refused, left])
    assert found.waiting_ms == {"2026-11-21T19": Ranks(9000, 9000, 9000)}
    assert found.first_ms == {}


async def test_of_too_many_replies_the_newest_are_counted(database: Database) -> None:
    rows = [row(NOW - timedelta(hours=10 - number)) for number in range(10)]
    found = await logged(database, rows, most=3)
    assert [one.hour for one in found.models] == ["2026-11-21T16", "2026-11-21T17", "2026-11-21T18"]
    assert not found.whole


async def test_what_is_older_is_not_counted(database: Database) -> None:
    rows = [row(NOW - timedelta(hours=1)), row(NOW)]
    found = await logged(database, rows, since="2026-11-21T19:00:00.000000+00:00")
    assert [one.hour for one in found.models] == ["2026-11-21T19"]


async def test_an_empty_log_is_an_answer(database: Database) -> None:
    assert await logged(database, []) == Hourly([], {}, {}, True)


async def test_memory_and_database_count_the_same(database: Database) -> None:
    rows = list(busy_week(NOW))
    found = await logged(database, rows)
    stats = Stats(10_000, clock=NOW.timestamp)
    stats.load(rows)
    remembered = stats.hourly(0)
    assert sorted(map(repr, remembered.models)) != []
    by_key = {(one.hour, one.model, one.outcome): one for one in remembered.models}
    assert by_key.keys() == {(one.hour, one.model, one.outcome) for one in found.models}
    for one in found.models:
        other = by_key[one.hour, one.model, one.outcome]
        assert one.timed_ms == pytest.approx(other.timed_ms)
        assert (one.replies, one.prompt_tokens, one.response_tokens, one.left_out, one.timed_tokens) == (
            other.replies,
            other.prompt_tokens,
            other.response_tokens,
            other.left_out,
            other.timed_tokens,
        )
    assert remembered.waiting_ms == found.waiting_ms
    assert remembered.first_ms == found.first_ms


def test_memory_that_is_full_says_that_it_has_not_all() -> None:
    stats = Stats(100, clock=NOW.timestamp)
    stats.load([row(NOW)] * 150)
    assert not stats.hourly(0).whole
    assert stats.hourly((NOW + timedelta(seconds=1)).timestamp()).whole
