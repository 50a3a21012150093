"""Replies by the hour, counted from what is in memory: where there is no log of requests, or it cannot be read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from app.storage.hourly import Hourly, ModelHour, Ranks


@dataclass(frozen=True, slots=True)
class Kept:
    """What is remembered of a reply.

    Attributes:
        at: when it ended, in seconds since 1970.
        hour: the same as the log's hour, see ModelHour.
        model: its id, empty: none.
        generation_ms: of the tokens that it has written.
        left_out: whether the model did not read the whole conversation.
    """

    at: float
    hour: str
    source: str
    outcome: str
    model: str
    prompt_tokens: int
    response_tokens: int
    queue_ms: float
    first_ms: float | None
    total_ms: float
    generation_ms: float
    left_out: bool

    @property
    def speed(self) -> float | None:
        """Tokens per second. One token has no speed, see ReplyMetrics; and of a reply that broke off no engine has
        told it."""
        if self.response_tokens < 2 or self.outcome != "finished" or self.generation_ms <= 0:
            return None
        return self.response_tokens / self.generation_ms * 1000


def hourly(replies: Iterable[Kept], *, whole: bool) -> Hourly:
    """What HourlyLog finds in a log with those rows.

    Args:
        replies: in any order.
        whole: whether none of their time are missing.
    """
    kept = sorted(replies, key=_place)
    waiting = [one for one in kept if one.queue_ms > 0 or one.first_ms is not None]
    return Hourly(
        [_count(key, list(group)) for key, group in groupby(kept, key=_place)],
        _ranks(waiting, lambda one: one.queue_ms),
        _ranks(kept, lambda one: one.first_ms),
        whole,
    )


def rank(numbers: Sequence[float], percent: int) -> float:
    """Of sorted numbers the one that so many of a hundred do not exceed: the nearest rank, one that was there."""
    return numbers[math.ceil(percent * len(numbers) / 100) - 1]


def _place(one: Kept) -> tuple[str, str, str]:
    return one.hour, one.model, one.outcome


def _count(key: tuple[str, str, str], group: Sequence[Kept]) -> ModelHour:
    timed = [one for one in group if one.speed is not None]
    return ModelHour(
        *key,
        replies=len(group),
        prompt_tokens=sum(one.prompt_tokens for one in group),
        response_tokens=sum(one.response_tokens for one in group),
        left_out=sum(one.left_out for one in group),
        timed_tokens=sum(one.response_tokens for one in timed),
        timed_ms=sum(one.generation_ms for one in timed),
    )


def _ranks(kept: Iterable[Kept], value: Callable[[Kept], float | None]) -> dict[str, Ranks]:
    """`kept`: by the hour."""
    found = {}
    for hour, group in groupby(kept, key=lambda one: one.hour):
        numbers = sorted(number for one in group if (number := value(one)) is not None)
        if numbers:
            found[hour] = Ranks(rank(numbers, 50), rank(numbers, 95), rank(numbers, 99))
    return found
