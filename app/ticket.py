"""A place in a queue: who has it, how long it will still take until its turn."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.errors import WaitedTooLong
from app.forecast import Request, Work

if TYPE_CHECKING:
    from app.admission import Queue

# While somebody waits, the estimate is looked at again this often. In seconds.
_LOOK: Final = 1.5
# An estimate is told anew when it is off the one last told by more than both: a share of it, and seconds.
_OFF_SHARE: Final = 0.2
_OFF_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the queue: how many are served or wait before it, and the seconds until its turn; None: not known."""

    ahead: int
    seconds_left: float | None

    def differs(self, told: Place, passed: float) -> bool:
        """Whether somebody who was told another place, so many seconds ago, has to be told this one."""
        if self.ahead != told.ahead or self.seconds_left is None or told.seconds_left is None:
            return self.ahead != told.ahead or self.seconds_left != told.seconds_left
        expected = max(told.seconds_left - passed, 0.0)
        return abs(self.seconds_left - expected) > max(_OFF_SHARE * expected, _OFF_SECONDS)


class Ticket:
    """A place in the queue. Leave it, whatever happens: `leave` may be called at any time, more than once.

    Attributes:
        who: whose it is; None: nobody is told apart.
        asked_in: names what it is a part of; the parts of one request count as one.
        round: see `Queue`.
        admitted: whether it has a slot, or had one.
        overtaken: whether one that came later, but whose conversation was still warm, went first.
    """

    def __init__(
        self, queue: Queue, who: str | None, asked_in: str | None, turn: int, expected: Request | None
    ) -> None:
        self._queue = queue
        self.who = who
        self.asked_in = asked_in
        self.round = turn
        self.admitted = False
        self.overtaken = False
        self._expected = expected
        self._moved = asyncio.Event()
        self._joined_at = queue.clock()
        self._work: Work | None = None
        self._admitted_at = self._first_at = math.nan

    async def wait(self) -> AsyncGenerator[Place, None]:
        """Yield its place, each time that it changes or that the time left is clearly another; end when it is this
        one's turn.

        Raises:
            WaitedTooLong: it was not, for as long as anybody may wait.
        """
        told: tuple[Place, float] | None = None
        while not self.admitted:
            self._moved.clear()
            place, now = self._queue.place(self), self._queue.clock()
            if told is None or place.differs(told[0], now - told[1]):
                told = place, now
                yield place
                if self.admitted:
                    return
            left = self._joined_at + self._queue.max_wait - self._queue.clock()
            if left <= 0:
                raise WaitedTooLong(
                    waiting=self._queue.waiting, seconds=self._queue.next_start(), waited=round(self._queue.max_wait)
                )
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, _LOOK)):
                    await self._moved.wait()
            self._queue.look()

    def moved(self) -> None:
        """Something has changed before it, or it is its turn."""
        self._moved.set()

    @property
    def warm(self) -> bool:
        """Whether the engine still holds what was said before, so that it has less to read."""
        return self._expected is not None and self._expected.held() > 0

    @property
    def work(self) -> Work | None:
        """What it is expected to take; None: not known. From its admission on it stays as it was then."""
        if self._work is None and self._expected is not None:
            return self._expected.work()
        return self._work

    def admit(self) -> None:
        """It has a slot from now on."""
        self._work = self.work
        self.admitted, self._admitted_at = True, self._queue.clock()
        self.moved()

    def writes(self) -> None:
        """The first of its reply has come: what it has to load and read is done. May be called more than once."""
        if math.isnan(self._first_at):
            self._first_at = self._queue.clock()
            self._queue.tell()

    def left(self, now: float) -> float | None:
        """Seconds that it will take still, once it is served; None: not known."""
        if self._work is None:
            return None
        written = None if math.isnan(self._first_at) else now - self._first_at
        return self._work.left(now - self._admitted_at, written)

    def leave(self) -> None:
        """Give back the slot, or the place in the queue."""
        self._queue.leave(self)
