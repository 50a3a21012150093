"""Replies on their way into the log of requests: in the background, several at once."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Final

from app.asker import visitor_hash
from app.metrics import Ended
from app.storage.problems import DatabaseAway, DatabaseRefused
from app.storage.requests import RequestRow, Requests
from app.storage.texts import now, storable

log = logging.getLogger(__name__)

# Rows are gathered for this long, in seconds, and so many are written at once.
_GATHER: Final = 1.0
_BATCH: Final = 500
# What comes while so many wait is dropped.
_MOST_WAITING: Final = 10_000
_MILLI: Final = 1000
# What stands at the end of a text that was longer.
CUT: Final = "… [cut]"
# What the table takes of names that others give.
_LONGEST_ID: Final = 64
_LONGEST_CLIENT: Final = 200


class RequestLog:
    """Takes replies that have ended, and writes them down when nobody waits for it.

    A log may have gaps, conversations may not: where the database is away its rows are dropped.

    Args:
        requests: the table.
        text_bytes: so much of each text that was said is logged, in bytes of UTF-8; 0: nothing.
        gather, most_waiting: seconds that rows are gathered for, and how many may wait.

    Attributes:
        dropped: rows that were not written since the start.
    """

    def __init__(
        self,
        requests: Requests,
        *,
        text_bytes: int = 0,
        gather: float = _GATHER,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._requests = requests
        self._text_bytes = text_bytes
        self._gather = gather
        self._most_waiting = most_waiting
        self._waiting: deque[RequestRow] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._ending = asyncio.Event()
        self.dropped = 0

    def add(self, ended: Ended) -> None:
        """Take a reply that has ended; it is written later."""
        if len(self._waiting) >= self._most_waiting:
            self.dropped += 1
            return
        self._waiting.append(row_of(ended, self._text_bytes))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_soon())

    async def forget(self, identifier: str) -> None:
        """Drop what a visitor has said, and that it was this one, from all rows, written or not.

        Raises:
            DatabaseAway: on the way; it can be asked for again.
        """
        client = visitor_hash(identifier)
        async with self._writing:
            for place, row in enumerate(self._waiting):
                if row.client == client:
                    self._waiting[place] = replace(row, client=None, input_text=None, output_text=None)
        await self._requests.forget(client)

    async def close(self) -> None:
        """Write what is left."""
        self._ending.set()
        if self._writer is not None:
            await self._writer

    async def _write_soon(self) -> None:
        while self._waiting:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), self._gather)
            await self._write()

    async def _write(self) -> None:
        while self._waiting:
            async with self._writing:
                rows = list(islice(self._waiting, _BATCH))
                try:
                    await self._requests.add(rows)
                except (DatabaseAway, DatabaseRefused) as problem:
                    self._drop(len(rows))
                    log.warning("STATS %d requests are not logged: %s", len(rows), problem)
                except Exception:
                    self._drop(len(rows))
                    log.exception("STATS %d requests are not logged", len(rows))
                else:
                    self._leave(len(rows))

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._leave(count)

    def _leave(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()


def row_of(ended: Ended, text_bytes: int = 0) -> RequestRow:
    """What is logged of a reply that has ended.

    Args:
        text_bytes: of what was said, see RequestLog. What no model was found for is not worth its room: whoever is
            refused may send as much as he likes.
    """
    asker, model, metrics = ended.asker, ended.model, ended.metrics
    text_bytes = text_bytes if model else 0
    first = metrics.first_token_seconds
    return RequestRow(
        request_id=storable(asker.request_id)[:_LONGEST_ID],
        timestamp=now(),
        source=asker.source,
        client=None if asker.client is None else storable(asker.client)[:_LONGEST_CLIENT],
        model_name=model.name if model else None,
        engine=model.engine if model else None,
        prompt_tokens=metrics.prompt_tokens,
        cached_tokens=metrics.cached_tokens,
        response_tokens=metrics.reply_tokens,
        time_to_first_token_ms=None if first is None else first * _MILLI,
        processing_time_ms=metrics.total_seconds * _MILLI,
        queue_ms=metrics.queue_seconds * _MILLI,
        load_ms=metrics.load_seconds * _MILLI,
        prompt_ms=metrics.prompt_seconds * _MILLI,
        generation_ms=metrics.generation_seconds * _MILLI,
        left_out=ended.left_out,
        status=metrics.outcome,
        error=ended.error.code if ended.error else None,
        input_text=cut(ended.question, text_bytes) if text_bytes else None,
        output_text=cut(ended.answer, text_bytes) if text_bytes else None,
    )


def cut(text: str, most: int) -> str:
    """`text` as a database takes it, in at most `most` bytes of UTF-8; a longer one ends with `CUT`."""
    data = str(storable(text)).encode()
    if len(data) <= most:
        return data.decode()
    return data[: max(0, most - len(CUT.encode()))].decode(errors="ignore") + CUT
