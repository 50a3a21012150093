"""The log of requests by the hour, counted by the database: no row of it comes to this process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, case, func, or_, select

from app.storage.database import Database
from app.storage.queries import all_rows
from app.storage.tables import request_logs

# What stands before the minutes in a time of the log, see app/storage/texts.py: 2026-11-21T19.
_HOUR: Final = 13
_PERCENTS: Final = (50, 95, 99)
# What is counted. Texts that were logged are not read.
_FIGURES: Final = (
    "engine",
    "model_name",
    "status",
    "prompt_tokens",
    "response_tokens",
    "time_to_first_token_ms",
    "queue_ms",
    "generation_ms",
    "left_out",
)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Of several numbers those that 50, 95 and 99 of a hundred do not exceed: numbers that were there."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class ModelHour:
    """The replies of a model within an hour that ended in one way.

    Attributes:
        hour: how it begins in UTC: `2026-11-21T19`.
        model: its id; empty: none was found for them.
        outcome: finished, stopped or failed.
        replies: how many.
        prompt_tokens, response_tokens: read and written, where it is known.
        left_out: of the replies those before which the model did not read the whole conversation.
        timed_tokens, timed_ms: written by replies whose speed is known, and the time that took.
    """

    hour: str
    model: str
    outcome: str
    replies: int
    prompt_tokens: int
    response_tokens: int
    left_out: int
    timed_tokens: int
    timed_ms: float


@dataclass(frozen=True, slots=True)
class Hourly:
    """Some time's replies.

    Attributes:
        models: by hour, model and outcome; hours without a reply are not there.
        waiting_ms: in the queue, by hour, of those that came to a slot or left while they waited.
        first_ms: from the question to the first text, by hour, of those that came to it.
        whole: whether these are all replies of that time; else there were too many, and they are the newest.
    """

    models: Sequence[ModelHour]
    waiting_ms: dict[str, Ranks]
    first_ms: dict[str, Ranks]
    whole: bool = True


class HourlyLog:
    """Reads the table of requests by the hour.

    Args:
        database: has it.
        most: rows that are counted, the newest: what it takes is bounded by them.
    """

    def __init__(self, database: Database, most: int) -> None:
        self._database = database
        self._most = most

    async def since(self, timestamp: str) -> Hourly:
        """The replies of that time (ISO 8601, UTC) or later.

        Raises:
            DatabaseAway: it cannot be read now.
            DatabaseRefused: it is of no use.
        """
        log = request_logs.c
        rows = (
            select(func.substr(log.timestamp, 1, _HOUR).label("hour"), *(log[name] for name in _FIGURES))
            .where(log.timestamp >= timestamp)
            .order_by(log.timestamp.desc(), log.position.desc())
            .limit(self._most)
            .subquery()
        )
        async with self._database.read() as connection:
            models = [_model_hour(row) for row in await all_rows(connection, _counts(rows.c))]
            waited = or_(rows.c.queue_ms > 0, rows.c.time_to_first_token_ms.is_not(None))
            waiting = await all_rows(connection, _ranks(rows.c.hour, rows.c.queue_ms, waited))
            came = rows.c.time_to_first_token_ms.is_not(None)
            first = await all_rows(connection, _ranks(rows.c.hour, rows.c.time_to_first_token_ms, came))
        whole = sum(one.replies for one in models) < self._most
        return Hourly(models, _by_hour(waiting), _by_hour(first), whole)


def _counts(log: Any) -> Select[Any]:
    # As in ReplyMetrics: one token has no speed, and of a reply that broke off no engine has told it.
    timed = (log.status == "finished") & (log.response_tokens > 1) & (log.generation_ms > 0)
    by = (log.hour, log.engine, log.model_name, log.status)
    return (
        select(
            *by,
            func.count().label("replies"),
            func.coalesce(func.sum(log.prompt_tokens), 0).label("prompt_tokens"),
            func.sum(log.response_tokens).label("response_tokens"),
            func.sum(case((log.left_out > 0, 1), else_=0)).label("left_out"),
            func.sum(case((timed, log.response_tokens), else_=0)).label("timed_tokens"),
            func.sum(case((timed, log.generation_ms), else_=0.0)).label("timed_ms"),
        )
        .group_by(*by)
        .order_by(*by)
    )


def _ranks(hour: ColumnElement[str], value: ColumnElement[float], among: ColumnElement[bool]) -> Select[Any]:
    """The nearest ranks of each hour. SQLite has no percentiles, but both databases number rows."""
    ranked = (
        select(
            hour.label("hour"),
            value.label("value"),
            func.row_number().over(partition_by=hour, order_by=value).label("place"),
            func.count().over(partition_by=hour).label("size"),
        )
        .where(among)
        .subquery()
        .c
    )
    reached = [func.min(case((ranked.place * 100 >= ranked.size * percent, ranked.value))) for percent in _PERCENTS]
    named = [column.label(f"p{percent}") for column, percent in zip(reached, _PERCENTS, strict=True)]
    return select(ranked.hour, *named).group_by(ranked.hour)


def _model_hour(row: Any) -> ModelHour:
    return ModelHour(
        hour=row["hour"],
        model=f"{row['engine']}/{row['model_name']}" if row["engine"] and row["model_name"] else "",
        outcome=row["status"],
        replies=int(row["replies"]),
        prompt_tokens=int(row["prompt_tokens"]),
        response_tokens=int(row["response_tokens"]),
        left_out=int(row["left_out"]),
        timed_tokens=int(row["timed_tokens"]),
        timed_ms=float(row["timed_ms"]),
    )


def _by_hour(rows: Iterable[Any]) -> dict[str, Ranks]:
    return {row["hour"]: Ranks(float(row["p50"]), float(row["p95"]), float(row["p99"])) for row in rows}
