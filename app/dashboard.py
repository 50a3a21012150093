"""What the dashboard draws: replies by the hour, and how the server stands. Nobody's words, names or addresses."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from app import __version__
from app.chat import Chat
from app.default_model import DefaultModelFinder
from app.engines.base import Engine
from app.samples import Samples
from app.stats import Stats
from app.storage.hourly import Hourly, ModelHour, Ranks
from app.storage.problems import DatabaseAway, DatabaseRefused

log = logging.getLogger(__name__)

Period = Literal["day", "week"]
HOURS: Final[dict[Period, int]] = {"day": 24, "week": 168}
# Where the figures come from: the log of requests; what is in memory because there is no log, or it cannot be read.
Source = Literal["log", "no_log", "database_away"]

# What was counted is shown again for so long, in seconds, however many look; and so many times as long as it took, so
# that a large log costs a twentieth of a processor at most.
_FRESH: Final = 10.0
_SHARE: Final = 20
# Models with lines of their own: those that answered most.
_MOST_MODELS: Final = 8
_OUTCOMES: Final = ("finished", "stopped", "failed")
_PLACES: Final = 1


@dataclass(frozen=True, slots=True)
class Parts:
    """Who knows what is told.

    Attributes:
        chat: the queues.
        engines: those that are set up.
        finder: the default model.
        stats: the replies that are in memory.
        samples: memory and queue over a day.
        read_log: the log of requests, from a time on; None: there is none.
        database: whether it answers; None: there is none.
        open_pages, unsaved: how many pages are connected, how many writes wait.
    """

    chat: Chat
    engines: Sequence[Engine]
    finder: DefaultModelFinder
    stats: Stats
    samples: Samples
    read_log: Callable[[str], Awaitable[Hourly]] | None
    database: Callable[[], bool] | None
    open_pages: Callable[[], int]
    unsaved: Callable[[], int]


class Dashboard:
    """Puts it together.

    Args:
        parts: who knows.
        clock: seconds since 1970.
        passing: seconds, monotonic.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        clock: Callable[[], float] = time.time,
        passing: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parts = parts
        self._clock = clock
        self._passing = passing
        self._counting = {period: asyncio.Lock() for period in HOURS}
        self._counted: dict[Period, tuple[float, dict[str, Any]]] = {}

    async def of(self, period: Period) -> dict[str, Any]:
        """All that is drawn, for JSON."""
        return {"period": period, "replies": await self._replies(period), "now": self._now()}

    async def _replies(self, period: Period) -> dict[str, Any]:
        async with self._counting[period]:
            until, counted = self._counted.get(period, (0.0, {}))
            if self._passing() < until:
                return counted
            begun = self._passing()
            hours = _hours(self._clock(), HOURS[period])
            source, found = await self._hourly(hours[0])
            counted = {"source": source, "whole": found.whole} | drawn(found, hours)
            ended = self._passing()
            fresh = max(_FRESH, _SHARE * (ended - begun)) if source == "log" else _FRESH
            self._counted[period] = ended + fresh, counted
            return counted

    async def _hourly(self, since: datetime) -> tuple[Source, Hourly]:
        source: Source = "no_log"
        if self._parts.read_log is not None:
            try:
                return "log", await self._parts.read_log(since.isoformat(timespec="microseconds"))
            except (DatabaseAway, DatabaseRefused) as problem:
                log.warning("STATS the dashboard shows what is in memory: %s", problem)
                source = "database_away"
        return source, self._parts.stats.hourly(since.timestamp())

    def _now(self) -> dict[str, Any]:
        parts, default = self._parts, self._parts.finder.current.model
        queues = {engine.name: parts.chat.queue_of(engine) for engine in parts.engines}
        samples = parts.samples.all()
        return {
            "time": _stamp(self._clock()),
            "version": __version__,
            "uptime_seconds": round(parts.stats.uptime_seconds),
            "open_pages": parts.open_pages(),
            "database": "off" if parts.database is None else "ok" if parts.database() else "away",
            "unsaved": parts.unsaved(),
            "engines": [
                {
                    "name": state.name,
                    "label": state.label,
                    "status": "away" if state.problem else "unknown" if state.age is None else "up",
                    "error": state.problem.code if state.problem else None,
                    "slots": queues[state.name].slots,
                    "serving": queues[state.name].serving,
                    "waiting": queues[state.name].waiting,
                }
                for state in parts.chat.catalog.states()
            ],
            "models": [
                {"id": model.id, "name": model.name, "size": model.size, "loaded": model.loaded, "default": chosen}
                for model in parts.chat.catalog.listed
                for chosen in [default is not None and model.id == default.id]
            ],
            "memory": asdict(samples[-1].memory),
            "samples": {
                "time": [_stamp(one.at) for one in samples],
                "program": [one.memory.program for one in samples],
                "used": [one.memory.used for one in samples],
                "serving": [one.serving for one in samples],
                "waiting": [one.waiting for one in samples],
            },
        }


def drawn(found: Hourly, hours: Sequence[datetime]) -> dict[str, Any]:
    """Replies as lists with a place for each hour: numbers are 0 and times None where there was no reply."""
    keys = [hour.strftime("%Y-%m-%dT%H") for hour in hours]
    place = {key: number for number, key in enumerate(keys)}
    within = [one for one in found.models if one.hour in place]
    return {
        "hours": [f"{key}:00:00Z" for key in keys],
        "outcomes": {
            name: _sums(place, ((one.hour, one.replies) for one in within if one.outcome == name)) for name in _OUTCOMES
        },
        "prompt_tokens": _sums(place, ((one.hour, one.prompt_tokens) for one in within)),
        "response_tokens": _sums(place, ((one.hour, one.response_tokens) for one in within)),
        "left_out": _sums(place, ((one.hour, one.left_out) for one in within)),
        "waiting_ms": _lines(keys, found.waiting_ms),
        "first_ms": _lines(keys, found.first_ms),
        "models": _models(place, within),
    }


def _models(place: Mapping[str, int], found: Iterable[ModelHour]) -> list[dict[str, Any]]:
    """Each model's replies and speed, that with the most replies first."""
    by_model: dict[str, list[ModelHour]] = {}
    for one in found:
        if one.model:
            by_model.setdefault(one.model, []).append(one)
    models: list[dict[str, Any]] = []
    for name, rows in sorted(by_model.items(), key=lambda item: (-sum(one.replies for one in item[1]), item[0])):
        tokens = _sums(place, ((one.hour, one.timed_tokens) for one in rows))
        times = _sums(place, ((one.hour, one.timed_ms) for one in rows))
        models.append(
            {
                "id": name,
                "replies": sum(one.replies for one in rows),
                "speed": _speed(sum(tokens), sum(times)),
                "speeds": [_speed(*pair) for pair in zip(tokens, times, strict=True)],
            }
        )
    return models[:_MOST_MODELS]


def _speed(tokens: float, milliseconds: float) -> float | None:
    """Tokens per second."""
    return round(tokens / milliseconds * 1000, _PLACES) if milliseconds > 0 else None


def _sums(place: Mapping[str, int], values: Iterable[tuple[str, float]]) -> list[float]:
    sums: list[float] = [0] * len(place)
    for hour, value in values:
        sums[place[hour]] += value
    return sums


def _lines(keys: Sequence[str], ranks: Mapping[str, Ranks]) -> dict[str, list[float | None]]:
    known = [ranks.get(key) for key in keys]
    return {
        name: [None if one is None else round(getattr(one, name), _PLACES) for one in known]
        for name in ("p50", "p95", "p99")
    }


def _hours(now: float, count: int) -> list[datetime]:
    """The beginnings of the last hours, this one's last."""
    current = datetime.fromtimestamp(now, UTC).replace(minute=0, second=0, microsecond=0)
    return [current - timedelta(hours=back) for back in reversed(range(count))]


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
