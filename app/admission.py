"""Who is served now, who waits, who is turned away: a first-come queue in front of an engine's slots."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from app.errors import Busy


class Ticket:
    """A place in the queue. Leave it, whatever happens: `leave` may be called at any time, more than once."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
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
    """`slots` are served at once, at most `max_waiting` wait in the order in which they came."""

    def __init__(self, slots: int, max_waiting: int) -> None:
        self.slots = slots
        self._max_waiting = max_waiting
        self._serving: set[Ticket] = set()
        self._waiting: deque[Ticket] = deque()

    @property
    def serving(self) -> int:
        return len(self._serving)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def join(self) -> Ticket:
        """A ticket, admitted at once if a slot is free.

        Raises:
            Busy: the queue is full.
        """
        ticket = Ticket(self)
        if len(self._serving) < self.slots:
            self._admit(ticket)
        elif len(self._waiting) >= self._max_waiting:
            raise Busy(waiting=len(self._waiting))
        else:
            self._waiting.append(ticket)
        return ticket

    def ahead(self, ticket: Ticket) -> int:
        """How many are before a waiting ticket: those who are served and those who wait longer."""
        return len(self._serving) + self._waiting.index(ticket)

    def leave(self, ticket: Ticket) -> None:
        if ticket in self._serving:
            self._serving.remove(ticket)
            if self._waiting:
                self._admit(self._waiting.popleft())
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
        else:
            return
        for other in self._waiting:
            other.moved()

    def _admit(self, ticket: Ticket) -> None:
        self._serving.add(ticket)
        ticket.admitted = True
        ticket.moved()
