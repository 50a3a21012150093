"""The log of requests: a row for each reply; what was said is in it only where the operator wants that."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Final

from sqlalchemy import insert, or_, select, update

from app.storage.database import Database
from app.storage.queries import all_rows
from app.storage.tables import request_logs

_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class RequestRow:
    """What one reply took. Times in milliseconds, sizes in tokens; None: not known.

    Attributes:
        request_id: the request's own, or one that was made.
        timestamp: when it ended, ISO 8601, UTC.
        source: the page, or which API.
        client: who asked: the name of a key, or a hash; None: nobody is told apart.
        model_name, engine: that answered; None: it never came to one.
        processing_time_ms: from the question to the end of the reply; the others are parts of it.
        left_out: turns of the conversation that the model no longer read.
        status: finished, stopped or failed.
        error: the code of the error, if it failed.
        input_text, output_text: what was said; None: it is not logged.
    """

    request_id: str
    timestamp: str
    source: str
    client: str | None
    model_name: str | None
    engine: str | None
    prompt_tokens: int | None
    cached_tokens: int | None
    response_tokens: int
    time_to_first_token_ms: float | None
    processing_time_ms: float
    queue_ms: float
    load_ms: float
    prompt_ms: float
    generation_ms: float
    left_out: int
    status: str
    error: str | None
    input_text: str | None = None
    output_text: str | None = None


_TEXTS: Final = ("input_text", "output_text")
_COLUMNS: Final = [request_logs.c[field.name] for field in fields(RequestRow)]
_FIGURES: Final = [column for column in _COLUMNS if column.name not in _TEXTS]


class Requests:
    """The table of requests."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, rows: Sequence[RequestRow]) -> None:
        """Write rows, all or none.

        Raises:
            DatabaseAway: it takes no writes now.
        """
        async with self._database.write() as connection:
            await connection.execute(insert(request_logs), [asdict(row) for row in rows])

    async def newest(self, first: int) -> Sequence[RequestRow]:
        """The newest `first` rows, the newest one first."""
        query = select(*_COLUMNS).order_by(request_logs.c.position.desc()).limit(first)
        async with self._database.read() as connection:
            return [RequestRow(**row) for row in await all_rows(connection, query)]

    async def since(self, timestamp: str, limit: int) -> Sequence[RequestRow]:
        """Rows of that time or later, the oldest first, without what was said; of more than `limit` the newest."""
        query = (
            select(*_FIGURES)
            .where(request_logs.c.timestamp >= timestamp)
            .order_by(request_logs.c.timestamp.desc(), request_logs.c.position.desc())
            .limit(limit)
        )
        async with self._database.read() as connection:
            found = await all_rows(connection, query)
        return [RequestRow(**row) for row in reversed(found)]

    async def between(self, since: str = "", until: str = "", source: str = "") -> AsyncGenerator[RequestRow]:
        """Rows from `since` on and before `until` (ISO 8601, UTC; empty: any), the oldest first.

        Some hundred are in memory at a time, and no transaction lasts.
        """
        table = request_logs.c
        query = select(*_COLUMNS, table.position).order_by(table.timestamp, table.position).limit(_AT_ONCE)
        if until:
            query = query.where(table.timestamp < until)
        if source:
            query = query.where(table.source == source)
        after = table.timestamp >= since
        while True:
            async with self._database.read() as connection:
                found = await all_rows(connection, query.where(after))
            for row in found:
                yield RequestRow(**{name: value for name, value in row.items() if name != "position"})
            if len(found) < _AT_ONCE:
                return
            at, position = found[-1]["timestamp"], found[-1]["position"]
            after = (table.timestamp >= at) & or_(table.timestamp > at, table.position > position)

    async def forget(self, client: str) -> None:
        """What a client has said, and that it was this one, is gone from its rows; the figures stay.

        Raises:
            DatabaseAway: on the way; it can be asked for again.
        """
        table = request_logs.c
        nothing = dict.fromkeys(("client", *_TEXTS))
        while True:
            query = select(table.position).where(table.client == client).limit(_AT_ONCE)
            async with self._database.read() as connection:
                found = (await connection.execute(query)).scalars().all()
            if not found:
                return
            async with self._database.write() as connection:
                await connection.execute(update(request_logs).where(table.position.in_(found)).values(nothing))
