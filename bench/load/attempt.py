"""One request of a visitor's: what came of it, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

Way = Literal["page", "v1"]
Outcome = Literal["replied", "refused", "failed", "unfinished"]

# What our server calls it when it turns a request away because of what else there is to do.
REFUSALS: Final = frozenset(
    {"queue_full", "already_waiting", "waited_too_long", "rate_limit_exceeded", "memory_short", "stopping"}
)


@dataclass(slots=True)
class Attempt:
    """A request from its sending to its end. All times are seconds since the run began.

    Attributes:
        visitor, turn: whose it is, and his which; from 0.
        way: how it was sent.
        said: the message.
        sent_at: when it was sent.
        place: how many were before it as it was first told to wait; None: it was not told.
        waited_until: when it was told that it waits no more, or the reply began.
        pieces: when each piece of the reply came.
        tokens: of the reply as the server counts them; None: it did not say.
        ended_at: when its reply was whole, or it was clear that there will be none.
        outcome: `unfinished` until then.
        problem: why there is no reply, or no whole one.
        text: the reply.
    """

    visitor: int
    turn: int
    way: Way
    said: str
    now: Callable[[], float] = field(repr=False)
    sent_at: float = 0.0
    place: int | None = None
    waited_until: float | None = None
    pieces: list[float] = field(default_factory=list)
    tokens: int | None = None
    ended_at: float | None = None
    outcome: Outcome = "unfinished"
    problem: str = ""
    text: str = ""

    def waits(self, place: int) -> None:
        """The server says that so many are before it."""
        if self.place is None:
            self.place = place

    def is_served(self) -> None:
        """It waits no more."""
        if self.place is not None and self.waited_until is None:
            self.waited_until = self.now()

    def gets(self, piece: str) -> None:
        """A piece of the reply has come."""
        self.is_served()
        self.pieces.append(self.now())
        self.text += piece

    def ends(self, outcome: Outcome, problem: str = "") -> None:
        """It has come to its end; only the first one counts."""
        if self.ended_at is None:
            self.ended_at, self.outcome, self.problem = self.now(), outcome, problem

    @property
    def total(self) -> float | None:
        """Seconds from sending to the end."""
        return None if self.ended_at is None else self.ended_at - self.sent_at

    @property
    def first_token(self) -> float | None:
        """Seconds from sending to the first piece of the reply."""
        return self.pieces[0] - self.sent_at if self.pieces else None

    @property
    def told_to_wait(self) -> float:
        """Seconds from sending until the server had said that it waits no more."""
        return 0.0 if self.waited_until is None else self.waited_until - self.sent_at

    @property
    def gaps(self) -> list[float]:
        """Seconds between the pieces of the reply."""
        return [after - before for before, after in zip(self.pieces, self.pieces[1:], strict=False)]

    @property
    def speed(self) -> float | None:
        """Tokens per second, from the first to the last; None: there are too few."""
        tokens = len(self.pieces) if self.tokens is None else self.tokens
        if tokens < 2 or len(self.pieces) < 2:
            return None
        return (tokens - 1) / (self.pieces[-1] - self.pieces[0])

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the figures and without the texts."""
        facts = {name: value for name, value in asdict(self).items() if name not in ("now", "said", "text", "pieces")}
        return facts | {
            "total": self.total,
            "first_token": self.first_token,
            "told_to_wait": self.told_to_wait,
            "longest_gap": max(self.gaps, default=None),
            "tokens_per_second": self.speed,
        }
