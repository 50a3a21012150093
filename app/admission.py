"""Who is served now, who waits, who is turned away: a queue in front of an engine's slots."""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import AsyncGenerator, Callable

from app.errors import Busy


class Ticket:
    """A place in the queue. Leave it, whatever happens: `leave` may be called at any time, more than once."""

    def __init__(self, queue: Queue, who: str | None, turn: int) -> None:
        self._queue = queue
        self.who = who
        self.round = turn
        self._moved = asyncio.Event()
        self.admitted = False

    async def wait(self) -> AsyncGenerator[int, None]:
        """Yield how many are before this one, each time that it changes; end when it is this one's turn."""
        shown = -1
        while not self.admitted:
            self._moved.clear()
            ahead = self._queue.ahead(self)
            if ahead != shown:
                shown = ahead
                yield ahead
            if not self.admitted:
                await self._moved.wait()

    def moved(self) -> None:
        self._moved.set()

    def leave(self) -> None:
        """Give back the slot, or the place in the queue."""
        self._queue.leave(self)


class Queue:
    """`slots` are served at once, at most `max_waiting` wait. Visitors take turns: each one's first request goes before
    anybody's second, and among equals who came first is first.

    It is start-time fair queueing (Goyal, Vin and Cheng, 1996) with requests of equal weight: each gets a round, the
    one that is served now or, where its visitor has some in the queue already, the one after those.

    Attributes:
        on_join: called at the beginning of each `join`. Neither waits nor fails, like the next.
        on_idle: called when the last one has left: nobody is served, nobody waits.
    """

    def __init__(self, slots: int, max_waiting: int) -> None:
        self.slots = slots
        self._max_waiting = max_waiting
        self._serving: set[Ticket] = set()
        self._waiting: list[Ticket] = []
        self._round = 0
        # Of each visitor who is served or waits: its newest request's round, and how many it has.
        self._newest: dict[str, int] = {}
        self._count: Counter[str] = Counter()
        self.on_join: Callable[[], None] = lambda: None
        self.on_idle: Callable[[], None] = lambda: None

    @property
    def serving(self) -> int:
        return len(self._serving)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def join(self, who: str | None = None) -> Ticket:
        """A ticket, admitted at once if a slot is free.

        Args:
            who: the visitor, or the program; None: somebody of whom nothing is known, who stands for himself.

        Raises:
            Busy: the queue is full.
        """
        self.on_join()
        free = len(self._serving) < self.slots
        if not free and len(self._waiting) >= self._max_waiting:
            raise Busy(waiting=len(self._waiting))
        ticket = Ticket(self, who, self._enter(who))
        if free:
            self._admit(ticket)
        else:
            insort(self._waiting, ticket, key=lambda other: other.round)
            self._tell()
        return ticket

    def ahead(self, ticket: Ticket) -> int:
        """How many are before a waiting ticket: those who are served and those who are served sooner."""
        return len(self._serving) + self._waiting.index(ticket)

    def leave(self, ticket: Ticket) -> None:
        if ticket in self._serving:
            self._serving.remove(ticket)
            if self._waiting:
                self._admit(self._waiting.pop(0))
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
        else:
            return
        self._exit(ticket.who)
        self._tell()
        if not self._serving and not self._waiting:
            self.on_idle()

    def _enter(self, who: str | None) -> int:
        """The round of a new request."""
        if who is None:
            return self._round
        place = max(self._round, self._newest[who] + 1) if who in self._newest else self._round
        self._newest[who] = place
        self._count[who] += 1
        return place

    def _exit(self, who: str | None) -> None:
        if who is None:
            return
        self._count[who] -= 1
        if not self._count[who]:
            del self._count[who], self._newest[who]

    def _tell(self) -> None:
        for other in self._waiting:
            other.moved()

    def _admit(self, ticket: Ticket) -> None:
        self._round = max(self._round, ticket.round)
        self._serving.add(ticket)
        ticket.admitted = True
        ticket.moved()
