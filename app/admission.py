"""Who is served now, who waits and how long, who is turned away: a queue in front of an engine's slots."""

from __future__ import annotations

import math
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable
from typing import Final

from app.errors import AlreadyWaiting, Busy
from app.forecast import Request, starts
from app.ticket import Place, Ticket

# An estimate older than this is made anew when it is asked for. In seconds.
_FRESH: Final = 0.5


class Queue:
    """`slots` are served at once, at most `max_waiting` wait. Visitors take turns: each one's first request goes before
    anybody's second, and among equals who came first is first. Only one whose conversation the engine still holds goes
    before others of its round; each of those is overtaken at most once, so nobody waits more than a turn longer for it.

    It is start-time fair queueing (Goyal, Vin and Cheng, 1996) with requests of equal weight: each gets a round, the
    one that is served now or, where its visitor has some in the queue already, the one after those; and a round sooner
    when one of those has ended.

    Args:
        slots: how many; a function is asked anew each time, for an engine that gets to know it later.
        max_waiting: how many may wait.
        each: how many requests of one visitor may wait.
        max_wait: seconds after which one that waits is refused.
        clock: seconds, monotonic.

    Attributes:
        on_join: called at the beginning of each `join`. Neither waits nor fails, like the next.
        on_idle: called when the last one has left: nobody is served, nobody waits.
    """

    def __init__(
        self,
        slots: int | Callable[[], int],
        max_waiting: int,
        *,
        each: int = 1,
        max_wait: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._max_waiting = max_waiting
        self._each = each
        self.max_wait = max_wait
        self.clock = clock
        self.on_join: Callable[[], None] = lambda: None
        self.on_idle: Callable[[], None] = lambda: None
        self._serving: set[Ticket] = set()
        self._waiting: list[Ticket] = []
        self._round = 0
        # Of each visitor who is served or waits: its newest request's round, and how many it has.
        self._newest: dict[str, int] = {}
        self._count: Counter[str] = Counter()
        # Of those who wait, as it was when it was last looked at.
        self._places: dict[Ticket, Place] = {}
        self._looked_at = -math.inf

    @property
    def slots(self) -> int:
        """How many are served at once."""
        return self._slots if isinstance(self._slots, int) else self._slots()

    @property
    def serving(self) -> int:
        return len(self._serving)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def join(self, who: str | None = None, *, asked_in: str | None = None, expected: Request | None = None) -> Ticket:
        """A ticket, admitted at once if a slot is free.

        Args:
            who: the visitor, or the program; None: somebody of whom nothing is known, who stands for himself.
            asked_in: names what it is a part of, such as a batch: its parts wait as one.
            expected: what it will take; None: not known.

        Raises:
            AlreadyWaiting: as many of that visitor wait as may.
            Busy: the queue is full.
        """
        self.on_join()
        self.look()
        free = len(self._serving) < self.slots
        if not free:
            self._check(who, asked_in)
        ticket = Ticket(self, who, asked_in, self._enter(who), expected)
        if free:
            self._admit(ticket)
        else:
            insort(self._waiting, ticket, key=_round_of)
        self.tell()
        return ticket

    def _check(self, who: str | None, asked_in: str | None) -> None:
        """Whether one more may wait."""
        own = [ticket for ticket in self._waiting if ticket.who == who] if who is not None else []
        asked = {ticket.asked_in or id(ticket) for ticket in own}
        if asked_in not in asked and len(asked) >= self._each:
            raise AlreadyWaiting(waiting=len(own), seconds=self._seconds(own[0]))
        if len(self._waiting) >= self._max_waiting:
            raise Busy(waiting=len(self._waiting), seconds=self.next_start())

    def ahead(self, ticket: Ticket) -> int:
        """How many are before a waiting ticket: those who are served and those who are served sooner."""
        return self.place(ticket).ahead

    def place(self, ticket: Ticket) -> Place:
        """A waiting ticket's place, at most half a second old."""
        now = self.clock()
        if not self._places or now - self._looked_at > _FRESH:
            self._looked_at = now
            order = self._order()
            seconds = starts([other.left(now) for other in self._serving], [t.work for t in order], self.slots)
            self._places = {
                waiting: Place(ahead, left)
                for ahead, (waiting, left) in enumerate(zip(order, seconds, strict=True), len(self._serving))
            }
        return self._places[ticket]

    def next_start(self) -> float | None:
        """Seconds until a place in the queue is free; None: not known."""
        return self._seconds(self._next()) if self._waiting else None

    def _seconds(self, ticket: Ticket) -> float | None:
        return self.place(ticket).seconds_left

    def look(self) -> None:
        """Admit whoever has a slot now: the engine may have told of more."""
        admitted = False
        while self._waiting and len(self._serving) < self.slots:
            ticket, admitted = self._next(), True
            place = self._waiting.index(ticket)
            for other in self._waiting[:place]:
                other.overtaken = True
            del self._waiting[place]
            self._admit(ticket)
        if admitted:
            self.tell()

    def leave(self, ticket: Ticket) -> None:
        """See `Ticket.leave`."""
        if ticket in self._serving:
            self._serving.remove(ticket)
        elif ticket in self._waiting:
            self._waiting.remove(ticket)
        else:
            return
        self.look()
        self._exit(ticket)
        self.tell()
        if not self._serving and not self._waiting:
            self.on_idle()

    def _next(self) -> Ticket:
        """Whose turn is next: the first, or one of its round that is warm, if nobody before that was overtaken yet."""
        for ticket in self._waiting:
            if ticket.round > self._waiting[0].round:
                break
            if ticket.warm:
                return ticket
            if ticket.overtaken:
                break
        return self._waiting[0]

    def _order(self) -> list[Ticket]:
        """Those who wait, as they would be served by what is known now."""
        if not self._waiting:
            return []
        first = self._next()
        return [first, *(ticket for ticket in self._waiting if ticket is not first)]

    def _enter(self, who: str | None) -> int:
        """The round of a new request."""
        if who is None:
            return self._round
        place = max(self._round, self._newest[who] + 1) if who in self._newest else self._round
        self._newest[who] = place
        self._count[who] += 1
        return place

    def _exit(self, ticket: Ticket) -> None:
        """One of a visitor's is gone: those after it come a round sooner, behind whoever is in that one already, unless
        the visitor still has one in it. Else they would wait for as long as others come."""
        who = ticket.who
        if who is None:
            return
        self._count[who] -= 1
        if not self._count[who]:
            del self._count[who], self._newest[who]
            return
        after = max(ticket.round, self._round)
        rounds = {other.round for other in (*self._serving, *self._waiting) if other.who == who}
        for other in [other for other in self._waiting if other.who == who and other.round > after]:
            if other.round - 1 not in rounds:
                self._waiting.remove(other)
                rounds.discard(other.round)
                other.round -= 1
                rounds.add(other.round)
                insort(self._waiting, other, key=_round_of)
        self._newest[who] = max(*rounds, self._newest[who] - 1)

    def tell(self) -> None:
        """Something has changed: who waits looks what that means."""
        self._places = {}
        for other in self._waiting:
            other.moved()

    def _admit(self, ticket: Ticket) -> None:
        self._round = max(self._round, ticket.round)
        self._serving.add(ticket)
        ticket.admit()


def _round_of(ticket: Ticket) -> int:
    return ticket.round
