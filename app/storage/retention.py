"""What is deleted by itself: conversations unused for long or too many of them, and what has served its purpose."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Select, Table, delete, select

from app.storage.database import Database
from app.storage.erasing import delete_threads
from app.storage.problems import DatabaseAway
from app.storage.room import give_back, log_takes, rows_take, taken
from app.storage.tables import accounts, deleted_threads, devices, links, request_logs, threads, users

log = logging.getLogger(__name__)

# Any number, the same in every version of this program and no other lock's: who holds it on PostgreSQL prunes.
_LOCK: Final = 7_276_130_572
_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
# The cap spares what was used this recently: on another replica it may be being answered.
_RECENT: Final = timedelta(hours=1)
# Below the cap by this share, so that not every hour something has to go.
_ENOUGH: Final = 0.95
# So much of the cap the log of requests may take: anybody can fill it, also with what is refused.
_LOG_SHARE: Final = 0.25
# What comes late for a deleted conversation comes within minutes, or from a page that was left open.
_DELETED_DAYS: Final = 30
# A page that was opened once and never used.
_EMPTY_VISITOR_DAYS: Final = 30
_LISTED: Final = 500
# Conversations that go before the size is looked at again; they may be large.
_MEASURED: Final = 20
_PAUSE: Final = 0.01


@dataclass(slots=True)
class Pruned:
    """How many rows were deleted."""

    conversations_unused: int = 0
    conversations_over_the_cap: int = 0
    visitors: int = 0
    links: int = 0
    requests: int = 0
    requests_over_the_cap: int = 0
    deleted_marks: int = 0

    def __str__(self) -> str:
        counts = [
            f"{value} {name.replace('_', ' ')}" for name, value in zip(_NAMES, astuple(self), strict=True) if value
        ]
        return ", ".join(counts)


_NAMES: Final = [field.name for field in fields(Pruned)]


class Retention:
    """Deletes what is not to be kept any longer.

    Args:
        database: where.
        days: conversations unused for so long are deleted; 0: never.
        most_bytes: what conversations may take before those unused longest are deleted, and four times what the log
            may before its oldest rows are; 0: any.
        log_days: so long the log of requests is kept; 0: for ever.
        answering: ids of the conversations in which a reply is being written now; they stay.
        present: identifiers of the visitors whose page is open; they stay.
        on_deleted: called with the id of each conversation that was to go; one that was used meanwhile has stayed.
    """

    def __init__(
        self,
        database: Database,
        *,
        days: int,
        most_bytes: int,
        log_days: int,
        answering: Callable[[], Collection[str]],
        present: Callable[[], Collection[str]],
        on_deleted: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._days = days
        self._most = most_bytes
        self._log_days = log_days
        self._answering = answering
        self._present = present
        self._on_deleted = on_deleted

    async def run(self) -> None:
        """Prune now and once a day, see to the cap every hour; never ends."""
        next_day = time.monotonic()
        while True:
            try:
                async with self._database.first_of_replicas(_LOCK) as ours:
                    if ours:
                        daily = time.monotonic() >= next_day
                        pruned = await self.prune(daily=daily)
                        if daily:
                            next_day += _DAY
                        if str(pruned):
                            log.info("STORE deleted: %s", pruned)
            except DatabaseAway as problem:
                log.error("STORE what is too old is not deleted, the database is away: %s", problem)
            except Exception:
                log.exception("STORE what is too old could not be deleted")
            await asyncio.sleep(_HOUR)

    async def prune(self, *, daily: bool = True) -> Pruned:
        """Delete what is due.

        Args:
            daily: all of it; else only what is over the cap.

        Raises:
            DatabaseAway: on the way; what was deleted before is gone.
        """
        pruned = Pruned()
        if daily:
            if self._days:
                pruned.conversations_unused = await self._delete_unused()
            pruned.deleted_marks = await self._delete_old(deleted_threads, "deleted_at", _DELETED_DAYS)
            if self._log_days:
                pruned.requests = await self._delete_old(request_logs, "timestamp", self._log_days)
            pruned.links = await self._delete_old(links, "expires_at", 0)
            pruned.visitors = await self._delete_visitors()
        if self._most:
            pruned.requests_over_the_cap = await self._shorten_log()
            pruned.conversations_over_the_cap = await self._delete_over_the_cap()
        if str(pruned):
            await give_back(self._database)
        return pruned

    async def _delete_unused(self) -> int:
        before, deleted = _ago(timedelta(days=self._days)), 0
        while ids := await self._unused_longest(before):
            gone = await self._delete(ids, before)
            deleted += gone
            if not gone:
                break
        return deleted

    async def _shorten_log(self) -> int:
        """Delete the oldest rows of the log where it takes more than its share."""
        most, deleted = _LOG_SHARE * self._most, 0
        if await taken(self._database) <= most or (size := await log_takes(self._database)) <= most:
            return 0
        oldest = select(request_logs.c.position).order_by(request_logs.c.position).limit(_LISTED)
        while size > _ENOUGH * most and (positions := await self._column(oldest)):
            size -= await log_takes(self._database, positions)
            deleted += await self._delete_rows(request_logs, positions)
        return deleted

    async def _delete_over_the_cap(self) -> int:
        size, logged, deleted = await taken(self._database), 0, 0
        if size <= self._most:
            return 0
        if self._database.kind == "sqlite":
            # For the log, which has a cap of its own, no conversation has to go.
            logged = await log_takes(self._database)
            size -= logged
        else:
            # The files do not become smaller when rows are deleted.
            async with self._database.read() as connection:
                size = min(size, await rows_take(connection))
        if size <= self._most:
            return 0
        before, goal = _ago(_RECENT), _ENOUGH * self._most
        while size > goal and (listed := await self._unused_longest(before)):
            gone = 0
            for start in range(0, len(listed), _MEASURED):
                ids = listed[start : start + _MEASURED]
                if self._database.kind == "postgresql":
                    async with self._database.read() as connection:
                        size -= await rows_take(connection, ids)
                gone += await self._delete(ids, before)
                if self._database.kind == "sqlite":
                    size = await taken(self._database) - logged
                if size <= goal:
                    break
            deleted += gone
            if not gone:
                break
        if size > self._most:
            log.warning("STORE the database is over HISTORY_MAX_MB with what was used within the last hour")
        return deleted

    async def _delete(self, thread_ids: Sequence[str], unused_since: str) -> int:
        gone = await delete_threads(self._database, thread_ids, for_ever=False, unused_since=unused_since)
        for thread_id in thread_ids:
            self._on_deleted(thread_id)
        return gone

    async def _unused_longest(self, before: str) -> list[str]:
        """Some threads that were used before then, the one used longest ago first."""
        query = (
            select(threads.c.id)
            .where(threads.c.updated_at < before)
            .order_by(threads.c.updated_at, threads.c.id)
            .limit(_LISTED)
        )
        answering = set(self._answering())
        if answering:
            query = query.where(threads.c.id.not_in(answering))
        return list(await self._column(query))

    async def _delete_old(self, table: Table, column: str, days: int) -> int:
        query = select(*table.primary_key).where(table.c[column] < _ago(timedelta(days=days))).limit(_LISTED)
        deleted = 0
        while ids := await self._column(query):
            deleted += await self._delete_rows(table, ids)
        return deleted

    async def _delete_visitors(self) -> int:
        """Delete anonymous visitors who have opened the page and left nothing there: no conversation, setting, link or
        joined browser. Who comes back is made anew, and notices nothing."""
        used = [table.c.user_id for table in (threads, accounts, links, devices)]
        last, deleted = "", 0
        while True:
            query = (
                select(users.c.id, users.c.identifier, users.c.metadata)
                .where(users.c.created_at < _ago(timedelta(days=_EMPTY_VISITOR_DAYS)), users.c.id > last)
                # A token that is good no more would be good again for a visitor who is made anew.
                .where(users.c.identifier.like("anon-%"), users.c.token_version == 0)
                .where(*(~select(column).where(column == users.c.id).exists() for column in used))
                .order_by(users.c.id)
                .limit(_LISTED)
            )
            async with self._database.read() as connection:
                rows = (await connection.execute(query)).all()
            if not rows:
                return deleted
            last, present = rows[-1].id, set(self._present())
            empty = [row.id for row in rows if not row.metadata.get("preferences") and row.identifier not in present]
            if empty:
                unused = [~select(column).where(column == users.c.id).exists() for column in used]
                deleted += await self._delete_rows(users, empty, *unused)

    async def _delete_rows(self, table: Table, ids: Collection[Any], *conditions: Any) -> int:
        async with self._database.write() as connection:
            (key,) = table.primary_key
            gone = await connection.execute(delete(table).where(key.in_(ids), *conditions))
        await asyncio.sleep(_PAUSE)
        return gone.rowcount

    async def _column(self, query: Select[Any]) -> Collection[Any]:
        async with self._database.read() as connection:
            found: Collection[Any] = (await connection.execute(query)).scalars().all()
        return found


def _ago(time_ago: timedelta) -> str:
    return (datetime.now(UTC) - time_ago).isoformat(timespec="microseconds")
