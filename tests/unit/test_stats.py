"""What the server has answered lately: exact counts, bounded, of the last hour and day."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest

from app.asker import Asker
from app.chat import Chat
from app.engines.catalog import Catalog
from app.errors import ChatError
from app.history import SessionHistory, StoredMessage
from app.prompting import ReplyOptions
from app.stats import DAY, HOUR, Spread, Stats
from app.storage.problems import DatabaseAway
from app.storage.requests import RequestRow
from tests.fakes.engine import ScriptedEngine

NOW = 1_800_000_000.0


def row(*, ago: float = 1, first: float | None = 10, total: float = 100, **more: object) -> RequestRow:
    """A reply that ended `ago` seconds before NOW."""
    facts: dict[str, object] = {
        "request_id": "r",
        "timestamp": datetime.fromtimestamp(NOW - ago, UTC).isoformat(timespec="microseconds"),
        "source": "api",
        "client": None,
        "model_name": "gemma2:2b",
        "engine": "ollama",
        "prompt_tokens": 7,
        "cached_tokens": None,
        "response_tokens": 3,
        "time_to_first_token_ms": first,
        "processing_time_ms": total,
        "queue_ms": 0.0,
        "load_ms": 0.0,
        "prompt_ms": 5.0,
        "generation_ms": 1500.0,
        "left_out": 0,
        "status": "finished",
        "error": None,
    }
    return RequestRow(**(facts | more))  # type: ignore[arg-type]


def stats(*rows: RequestRow, most: int = 1000) -> Stats:
    made = Stats(most, clock=lambda: NOW)
    made.load(rows)
    return made


def test_nothing_was_asked_yet() -> None:
    summary = stats().summary(DAY)
    assert (summary.all.replies, summary.all.total_tokens, summary.models) == (0, 0, {})
    assert summary.all.time_to_first_token_ms == Spread(None, None)
    assert summary.all.by_outcome == {"finished": 0, "stopped": 0, "failed": 0}


def test_counts_tokens_and_times() -> None:
    rows = [row(first=n, total=10 * n) for n in range(1, 21)]
    rows += [row(source="page", status="stopped", first=None, total=1e6, prompt_tokens=None, response_tokens=0)]
    rows += [row(source="v1", status="failed", first=None, total=1e6, prompt_tokens=None, response_tokens=0)]
    figures = stats(*rows).summary(HOUR).all
    assert figures.by_outcome == {"finished": 20, "stopped": 1, "failed": 1}
    assert figures.by_source == {"page": 1, "api": 20, "v1": 1}
    assert (figures.replies, figures.prompt_tokens, figures.response_tokens, figures.total_tokens) == (22, 140, 60, 200)
    assert figures.time_to_first_token_ms == Spread(10.5, 19)
    assert figures.total_time_ms == Spread(105, 190)
    assert figures.tokens_per_second == Spread(2, 2)


def test_an_hour_is_a_part_of_a_day_and_older_ones_do_not_count() -> None:
    made = stats(row(), row(ago=HOUR + 1), row(ago=DAY - 1), row(ago=DAY + 1))
    assert [made.summary(seconds).all.replies for seconds in (HOUR, DAY)] == [1, 3]


def test_each_model_has_figures_of_its_own() -> None:
    made = stats(row(), row(), row(model_name="qwen", engine="vllm"), row(model_name=None, engine=None))
    summary = made.summary(DAY)
    assert {model: figures.replies for model, figures in summary.models.items()} == {
        "ollama/gemma2:2b": 2,
        "vllm/qwen": 1,
    }
    assert summary.all.replies == 4


def test_the_oldest_are_forgotten_whatever_order_they_come_in() -> None:
    made = stats(*(row(ago=ago, first=ago) for ago in (3, 1, 4, 2)), most=2)
    assert (len(made), made.summary(DAY).all.time_to_first_token_ms) == (2, Spread(1.5, 2))


async def test_what_ended_while_the_log_was_read_counts_once() -> None:
    made = Stats(10)
    chat = Chat(Catalog([ScriptedEngine("one two three")]), on_end=made.add)
    for model, source in (("gemma2:2b", "api"), ("gone", "v1")):
        asker = Asker(source)  # type: ignore[arg-type]
        turn = chat.turn(SessionHistory("c"), StoredMessage("q", "hello"), "a", ReplyOptions(model), asker=asker)
        with suppress(ChatError):
            async for _ in turn.events():
                pass
    before = datetime.now(UTC).timestamp() - 60
    logged = [row(timestamp=datetime.fromtimestamp(at, UTC).isoformat()) for at in (before, before + 3600)]
    made.load(logged)
    summary = made.summary(DAY)
    assert summary.all.replies == 3
    assert summary.all.by_outcome == {"finished": 2, "stopped": 0, "failed": 1}
    assert summary.models["ollama/gemma2:2b"].response_tokens == 6


async def test_the_last_day_is_read_from_the_log() -> None:
    made, asked = stats(most=5), []

    async def read(since: str, most: int) -> list[RequestRow]:
        asked.append((since, most))
        return [row(), row(ago=HOUR + 1)]

    await made.recall(read)
    assert asked == [(datetime.fromtimestamp(NOW - DAY, UTC).isoformat(timespec="microseconds"), 5)]
    assert made.summary(DAY).all.replies == 2


async def test_a_log_that_cannot_be_read_leaves_the_figures_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    made = stats(row())

    async def read(since: str, most: int) -> list[RequestRow]:
        raise DatabaseAway("nobody answers")

    await made.recall(read)
    assert made.summary(DAY).all.replies == 1
    assert "nobody answers" in caplog.text


def test_the_time_that_the_server_is_up() -> None:
    times = iter([5.0, 12.5])
    assert Stats(1, uptime_clock=lambda: next(times)).uptime_seconds == pytest.approx(7.5)
