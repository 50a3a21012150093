"""The log of requests: a row for each reply; what was said is in it only where the operator wants that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

from sqlalchemy import insert, select

from app.storage.database import Database
from app.storage.queries import all_rows
from app.storage.tables import request_logs


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
        columns = [request_logs.c[field.name] for field in fields(RequestRow)]
        query = select(*columns).order_by(request_logs.c.position.desc()).limit(first)
        async with self._database.read() as connection:
            return [RequestRow(**row) for row in await all_rows(connection, query)]
