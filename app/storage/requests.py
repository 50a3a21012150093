"""The log of requests: a row for each reply, without a word of what was said and without who said it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import insert, select

from app.storage.database import Database
from app.storage.queries import all_rows
from app.storage.tables import requests


@dataclass(frozen=True, slots=True)
class RequestRow:
    """What one reply took. Times in seconds, sizes in tokens; None: not known.

    Attributes:
        id: UUID7.
        finished_at: ISO 8601, UTC.
        source: who asked: the page, or which API.
        engine, model: that answered; None: it never came to one.
        outcome: finished, stopped or failed.
        error: the code of the error, if it failed.
        left_out: turns of the conversation that the model no longer read.
    """

    id: str
    finished_at: str
    source: str
    engine: str | None
    model: str | None
    outcome: str
    error: str | None
    total_seconds: float
    queue_seconds: float
    first_token_seconds: float | None
    load_seconds: float
    prompt_seconds: float
    generation_seconds: float
    prompt_tokens: int | None
    cached_tokens: int | None
    reply_tokens: int
    left_out: int


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
            await connection.execute(insert(requests), [asdict(row) for row in rows])

    async def newest(self, first: int) -> Sequence[RequestRow]:
        """The newest `first` rows, the newest one first."""
        columns = [requests.c[field.name] for field in fields(RequestRow)]
        query = select(*columns).order_by(requests.c.position.desc()).limit(first)
        async with self._database.read() as connection:
            return [RequestRow(**row) for row in await all_rows(connection, query)]
