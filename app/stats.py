"""What this server has answered lately: counts, tokens, times. In memory, and bounded."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Final

from app.hourly import Kept, hourly, rank
from app.metrics import Ended
from app.request_log import row_of
from app.storage.hourly import Hourly
from app.storage.problems import DatabaseAway, DatabaseRefused
from app.storage.requests import RequestRow

log = logging.getLogger(__name__)

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
_HIGH: Final = 95
# What stands before the minutes in a time of the log.
_HOUR_PLACES: Final = 13


@dataclass(frozen=True, slots=True)
class Spread:
    """Of several numbers the middle one, and the one that all but five of a hundred do not exceed; None: of none."""

    median: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What some replies took together.

    Attributes:
        replies: how many there were.
        by_outcome: of them finished, stopped and failed.
        by_source: of them asked for by the page and by each API.
        time_to_first_token_ms: from the question on, of those that came to it.
        total_time_ms: from the question on, of those that were finished.
        tokens_per_second: speed of the generation, of the same.
    """

    replies: int
    by_outcome: dict[str, int]
    by_source: dict[str, int]
    prompt_tokens: int
    response_tokens: int
    total_tokens: int
    time_to_first_token_ms: Spread
    total_time_ms: Spread
    tokens_per_second: Spread


@dataclass(frozen=True, slots=True)
class Summary:
    """The replies of some time: all of them, and those of each model by its id."""

    all: Figures
    models: dict[str, Figures]


class Stats:
    """Remembers the replies of a day.

    Args:
        most: replies that are remembered; beyond it the oldest are forgotten.
        clock: seconds since 1970.
        uptime_clock: seconds, monotonic.

    Attributes:
        started_at: when this server began, in seconds since 1970.
    """

    def __init__(
        self,
        most: int,
        *,
        clock: Callable[[], float] = time.time,
        uptime_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._kept: deque[Kept] = deque(maxlen=most)
        self._clock = clock
        self._uptime_clock = uptime_clock
        self._began = uptime_clock()
        self.started_at = clock()

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def uptime_seconds(self) -> float:
        return self._uptime_clock() - self._began

    def add(self, ended: Ended) -> None:
        """Count a reply that has ended just now."""
        self._kept.append(_kept(row_of(ended)))

    async def recall(self, read: Callable[[str, int], Awaitable[Iterable[RequestRow]]]) -> None:
        """Load the last day's rows of the log. Figures may have gaps: where it cannot be read they begin now.

        Args:
            read: from a time (ISO 8601, UTC) and how many rows at most to the newest of them.
        """
        since = datetime.fromtimestamp(self._clock() - DAY, UTC).isoformat(timespec="microseconds")
        try:
            rows = await read(since, self._most)
        except (DatabaseAway, DatabaseRefused) as problem:
            log.warning("STATS what was answered before the start is not known: %s", problem)
            return
        self.load(rows)

    def load(self, rows: Iterable[RequestRow]) -> None:
        """Count replies of before, of this server or of others on the same database: rows of the log, in any order."""
        # Of those that were counted while the log was read, it has some too.
        known = [*self._kept]
        oldest = min((kept.at for kept in known), default=math.inf)
        before = [kept for kept in map(_kept, rows) if kept.at < oldest]
        self._kept.clear()
        self._kept.extend(sorted([*before, *known], key=lambda kept: kept.at))

    def summary(self, seconds: float) -> Summary:
        """The replies that ended within the last `seconds`."""
        since = self._clock() - seconds
        kept = [one for one in self._kept if one.at >= since]
        by_model: dict[str, list[Kept]] = {}
        for one in kept:
            if one.model:
                by_model.setdefault(one.model, []).append(one)
        return Summary(_figures(kept), {model: _figures(by_model[model]) for model in sorted(by_model)})

    def hourly(self, since: float) -> Hourly:
        """The replies that have ended since then (in seconds since 1970), of this day and by the hour."""
        kept = [one for one in self._kept if one.at >= since]
        full = len(self._kept) == self._most and len(kept) == self._most
        return hourly(kept, whole=not full)


def _kept(row: RequestRow) -> Kept:
    return Kept(
        at=datetime.fromisoformat(row.timestamp).timestamp(),
        hour=row.timestamp[:_HOUR_PLACES],
        source=row.source,
        outcome=row.status,
        model=f"{row.engine}/{row.model_name}" if row.engine and row.model_name else "",
        prompt_tokens=row.prompt_tokens or 0,
        response_tokens=row.response_tokens,
        queue_ms=row.queue_ms,
        first_ms=row.time_to_first_token_ms,
        total_ms=row.processing_time_ms,
        generation_ms=row.generation_ms,
        left_out=row.left_out > 0,
    )


def _figures(kept: Sequence[Kept]) -> Figures:
    outcomes: dict[str, int] = {"finished": 0, "stopped": 0, "failed": 0}
    sources: dict[str, int] = {"page": 0, "api": 0, "v1": 0}
    prompt = sum(one.prompt_tokens for one in kept)
    response = sum(one.response_tokens for one in kept)
    return Figures(
        replies=len(kept),
        by_outcome=outcomes | Counter(one.outcome for one in kept),
        by_source=sources | Counter(one.source for one in kept),
        prompt_tokens=prompt,
        response_tokens=response,
        total_tokens=prompt + response,
        time_to_first_token_ms=_spread([one.first_ms for one in kept if one.first_ms is not None]),
        total_time_ms=_spread([one.total_ms for one in kept if one.outcome == "finished"]),
        tokens_per_second=_spread([one.speed for one in kept if one.speed is not None]),
    )


def _spread(numbers: Sequence[float]) -> Spread:
    if not numbers:
        return Spread(None, None)
    return Spread(round(median(numbers), 3), round(rank(sorted(numbers), _HIGH), 3))
