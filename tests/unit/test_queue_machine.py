"""The queue under anything that can happen to it: people come, are served, leave and are cancelled, in any order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.admission import Queue
from app.engines.speeds import SpeedBook
from app.errors import AlreadyWaiting, Busy
from app.forecast import Request
from app.ticket import Place, Ticket
from app.warmth import Held, Warmth

MODEL = "m"
# Nobody is bounded who is not told apart.
WHO = ("ann", "bob", "eve", None, None, None)


@dataclass
class Person:
    """Somebody with a task of his own, as a turn has one: it waits, is served until told to end, and always leaves.

    Attributes:
        overtaken: how many of his round that came later were admitted before him.
    """

    number: int
    who: str | None
    ticket: Ticket
    places: list[Place] = field(default_factory=list)
    end: asyncio.Event = field(default_factory=asyncio.Event)
    served: bool = False
    overtaken: int = 0
    task: asyncio.Task[None] | None = None

    async def live(self) -> None:
        try:
            async for place in self.ticket.wait():
                self.places.append(place)
                await asyncio.sleep(0)  # whoever shows it takes a moment
            self.served = True
            await self.end.wait()
        finally:
            self.ticket.leave()


class QueueMachine(RuleBasedStateMachine):
    """Real tasks on a loop that is run, a number of steps at a time, between any two rules: cancelling strikes a task
    wherever it is then."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.people: list[Person] = []
        self.came = 0
        self.slots = 1
        self.now = 0.0
        self.warmth = Warmth()
        self.speeds = SpeedBook()

    @initialize(slots=st.integers(1, 2), room=st.integers(0, 12), each=st.integers(1, 3))
    def open(self, slots: int, room: int, each: int) -> None:
        self.slots, self.room, self.each = slots, room, each
        self.queue = Queue(lambda: self.slots, room, each=each, clock=lambda: self.now)

    def run(self, steps: int) -> None:
        """Let the tasks take so many steps."""

        async def some() -> None:
            for _ in range(steps):
                await asyncio.sleep(0)

        self.loop.run_until_complete(some())
        self.people = [person for person in self.people if person.task is None or not person.task.done()]

    def watched(self, action: Callable[[], object]) -> None:
        """Do what may admit somebody, and note who was overtaken by that."""
        before = [(ticket, ticket.round) for ticket in self.queue._waiting]
        waiting = {person.ticket: person for person in self.people}
        action()
        for place, (ticket, turn) in enumerate(before):
            # Who came a round sooner has overtaken nobody.
            if ticket.admitted and ticket.round == turn and ticket in waiting:
                for other, others_turn in before[:place]:
                    passed = others_turn == other.round == turn and other in self.queue._waiting
                    if passed and other in waiting:
                        waiting[other].overtaken += 1

    @rule(
        people=st.lists(st.tuples(st.sampled_from(WHO), st.booleans()), min_size=1, max_size=6), steps=st.integers(0, 3)
    )
    def come(self, people: list[tuple[str | None, bool]], steps: int) -> None:
        """Several at once, or it would be empty most of the time."""
        for who, warm in people:
            self.join(who, warm=warm)
        self.run(steps)

    def join(self, who: str | None, *, warm: bool) -> None:
        waiting = [person for person in self.people if not person.ticket.admitted]
        full = self.queue.serving >= self.slots
        own = sum(person.who == who for person in waiting) if who is not None else 0
        expected = Request(self.speeds, self.warmth, MODEL, f"c{self.came}", 0, "", 100, 10, 100, loaded=True)
        try:
            ticket = self.queue.join(who, expected=expected)
        except AlreadyWaiting:
            assert full
            assert own >= self.each
            return
        except Busy:
            assert full
            assert len(waiting) >= self.room
            return
        assert ticket.admitted == (not full)
        assert full is False or (own < self.each and len(waiting) < self.room)
        person = Person(self.came, who, ticket)
        self.came += 1
        self.people.append(person)
        if warm:
            self.warmth.used(MODEL, f"c{person.number}", Held(90, 0), None)
        person.task = self.loop.create_task(person.live())
        # A task that is cancelled before its first step never comes to its `finally`; a turn's generator neither: who
        # was never begun holds no ticket. So each takes its first step here.
        self.run(1)

    @precondition(lambda self: any(person.served for person in self.people))
    @rule(data=st.data(), steps=st.integers(0, 3))
    def finish(self, data: st.DataObject, steps: int) -> None:
        person = data.draw(st.sampled_from([person for person in self.people if person.served]))
        person.end.set()
        self.watched(lambda: self.run(steps))

    @precondition(lambda self: bool(self.people))
    @rule(data=st.data(), before=st.integers(0, 3), steps=st.integers(0, 3))
    def cancel(self, data: st.DataObject, before: int, steps: int) -> None:
        """Wherever he is: waiting, just told of his place, just admitted, served."""
        self.watched(lambda: self.run(before))
        if self.people:
            person = data.draw(st.sampled_from(self.people))
            assert person.task is not None
            person.task.cancel()
            self.watched(lambda: self.run(steps))

    @precondition(lambda self: bool(self.people))
    @rule(data=st.data())
    def leave_and_be_cancelled(self, data: st.DataObject) -> None:
        """He ends in the same moment as another is cancelled who would have been next."""
        first, second = (data.draw(st.sampled_from(self.people)) for _ in range(2))
        self.watched(first.ticket.leave)
        first.end.set()
        for person in (first, second):
            assert person.task is not None
            person.task.cancel()
        self.watched(lambda: self.run(1))

    @precondition(lambda self: bool(self.people))
    @rule(data=st.data())
    def warm(self, data: st.DataObject) -> None:
        person = data.draw(st.sampled_from(self.people))
        self.warmth.used(MODEL, f"c{person.number}", Held(90, 0), None)

    @precondition(lambda self: bool(self.people))
    @rule(data=st.data(), seconds=st.floats(0, 50))
    def write(self, data: st.DataObject, seconds: float) -> None:
        self.now += seconds
        data.draw(st.sampled_from(self.people)).ticket.writes()

    @rule(slots=st.integers(1, 4))
    def get_other_slots(self, slots: int) -> None:
        """The engine has told of more, or of fewer."""
        self.slots = slots
        self.watched(self.queue.look)

    @rule()
    def settle(self) -> None:
        """All that can happen now has happened: nobody who could be served still sleeps."""
        self.watched(lambda: self.run(12))
        assert all(person.served == person.ticket.admitted for person in self.people)

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "queue"):
            return
        admitted = [person for person in self.people if person.ticket in self.queue._serving]
        waiting = [person for person in self.people if person.ticket in self.queue._waiting]
        assert self.queue.serving == len(admitted)
        assert self.queue.waiting == len(waiting)
        # No slot stands empty while somebody waits, and nobody was turned away for less than what may wait.
        assert not waiting or len(admitted) >= self.slots
        assert len(waiting) <= self.room
        assert all(count <= self.each for who, count in Counter(person.who for person in waiting).items() if who)

    @invariant()
    def nobody_waits_a_turn_longer_than_once_for_the_warm(self) -> None:
        assert all(person.overtaken <= 1 for person in self.people)

    @invariant()
    def each_place_is_another(self) -> None:
        waiting = [person.ticket for person in self.people if not person.ticket.admitted]
        if waiting:
            places = sorted(self.queue.ahead(ticket) for ticket in waiting if ticket in self.queue._waiting)
            assert places == list(range(self.queue.serving, self.queue.serving + len(places)))

    def teardown(self) -> None:
        """Once all have left, it is as empty as it was: nothing is kept of anybody."""
        for person in self.people:
            assert person.task is not None
            person.task.cancel()
        self.run(12)
        self.loop.close()
        if hasattr(self, "queue"):
            assert (self.queue.serving, self.queue.waiting) == (0, 0)
            assert not self.queue._newest
            assert not self.queue._count


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
