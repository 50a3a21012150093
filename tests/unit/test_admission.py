"""The queue in front of an engine: who is next, who is refused, what those who wait are told."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.admission import Queue
from app.engines.speeds import SpeedBook
from app.errors import AlreadyWaiting, Busy, WaitedTooLong
from app.forecast import Request
from app.ticket import Place, Ticket
from app.warmth import Held, Warmth

MANY = 100


@dataclass
class Clock:
    """Time that passes when it is told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Machine:
    """Makes requests of a model that reads 10 tokens a second and writes 5; each prompt has 100, each reply 50."""

    speeds: SpeedBook = field(default_factory=SpeedBook)
    warmth: Warmth = field(default_factory=Warmth)

    def __post_init__(self) -> None:
        self.speeds.take({"m": {"prompt": [10], "generation": [5], "load": [7], "reply": [50]}})

    def request(self, conversation: str = "c", max_tokens: int = 1024) -> Request:
        return Request(self.speeds, self.warmth, "m", conversation, 0, "", 100, 10, max_tokens, loaded=True)


async def served(ticket: Ticket, seen: list[int]) -> None:
    async for place in ticket.wait():
        seen.append(place.ahead)


async def settled() -> None:
    """All that can happen now has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_free_slot_is_given_at_once() -> None:
    queue = Queue(slots=1, max_waiting=1)
    seen: list[int] = []
    await served(queue.join(), seen)
    assert seen == []


async def test_those_who_wait_see_their_place_change() -> None:
    queue = Queue(slots=1, max_waiting=5)
    first, second, third = queue.join(), queue.join(), queue.join()
    seen: list[int] = []
    waiting = asyncio.create_task(served(third, seen))
    await settled()
    first.leave()
    await settled()
    second.leave()
    await waiting
    assert seen == [2, 1]


async def test_a_full_queue_refuses_with_the_number_of_those_who_wait() -> None:
    queue = Queue(slots=1, max_waiting=1)
    queue.join()
    queue.join()
    with pytest.raises(Busy) as refused:
        queue.join()
    assert refused.value.facts == {"waiting": 1}
    assert "in about 1 minute" in str(refused.value)


async def test_leaving_twice_gives_back_one_slot() -> None:
    queue = Queue(slots=1, max_waiting=3)
    first, second, third = queue.join(), queue.join(), queue.join()
    first.leave()
    first.leave()
    assert second.admitted
    assert not third.admitted


async def test_it_tells_of_each_who_joins_and_when_the_last_one_has_left() -> None:
    queue, told = Queue(slots=1, max_waiting=1), []
    queue.on_join, queue.on_idle = lambda: told.append("join"), lambda: told.append("idle")
    first, second = queue.join(), queue.join()
    with pytest.raises(Busy):
        queue.join()
    first.leave()
    assert told == ["join"] * 3
    second.leave()
    second.leave()
    assert told == ["join"] * 3 + ["idle"]


# Turns


async def test_who_sends_ten_requests_does_not_put_nine_before_who_sends_one() -> None:
    queue = Queue(slots=1, max_waiting=20, each=MANY)
    many = [queue.join("ann") for _ in range(10)]
    one, stranger = queue.join("bob"), queue.join()
    seen: list[int] = []
    waiting = asyncio.create_task(served(one, seen))
    await settled()
    many[0].leave()
    await waiting
    assert seen == [1]
    one.leave()
    assert stranger.admitted
    stranger.leave()
    for ticket in many[1:]:
        assert ticket.admitted
        ticket.leave()
    assert (queue.serving, queue.waiting) == (0, 0)


async def test_one_who_comes_in_before_others_moves_them_back() -> None:
    queue = Queue(slots=1, max_waiting=20)
    queue.join("ann")
    second = queue.join("ann")
    seen: list[int] = []
    waiting = asyncio.create_task(served(second, seen))
    await settled()
    queue.join("bob")
    await settled()
    waiting.cancel()
    assert seen == [1, 2]


async def test_who_was_served_long_ago_has_no_better_place_than_who_comes_for_the_first_time() -> None:
    queue = Queue(slots=1, max_waiting=20)
    for _ in range(5):
        queue.join("ann").leave()
    queue.join("carol")
    first, second = queue.join("bob"), queue.join("ann")
    assert (queue.ahead(first), queue.ahead(second)) == (1, 2)


async def test_a_second_request_does_not_wait_for_as_long_as_others_come() -> None:
    queue = Queue(slots=1, max_waiting=20)
    now, second = queue.join("ann"), queue.join("ann")
    others = [queue.join(who) for who in ("bob", "carol")]
    now.leave()
    for who in ("bob", "carol"):  # each as soon as the one before is answered
        others.append(queue.join(f"{who} again"))
        others.pop(0).leave()
    assert second.admitted


async def test_who_changes_a_message_that_waits_loses_no_turns() -> None:
    queue = Queue(slots=1, max_waiting=20, each=MANY)
    now = queue.join("ann")
    for _ in range(5):
        queue.join("ann").leave()
    changed, other = queue.join("ann"), queue.join("bob")
    second = queue.join("bob")
    now.leave()
    other.leave()
    assert changed.admitted
    assert not second.admitted


async def test_an_engine_that_tells_of_more_slots_has_them_filled() -> None:
    slots = 1
    queue = Queue(lambda: slots, max_waiting=20)
    tickets = [queue.join() for _ in range(4)]
    slots = 3
    queue.look()
    assert [ticket.admitted for ticket in tickets] == [True, True, True, False]
    slots = 1
    for ticket in tickets[:2]:
        ticket.leave()
    assert not tickets[3].admitted
    tickets[2].leave()
    assert tickets[3].admitted


# Bounds


async def test_one_request_of_each_may_wait_and_somebody_unknown_is_not_bounded() -> None:
    queue = Queue(slots=1, max_waiting=20)
    queue.join("ann")
    second = queue.join("ann")
    with pytest.raises(AlreadyWaiting) as refused:
        queue.join("ann")
    assert "A message of yours is waiting already" in refused.value.sentence("en")
    queue.join("bob")
    queue.join()
    queue.join()
    second.leave()
    queue.join("ann")
    assert queue.waiting == 4


async def test_the_parts_of_a_batch_wait_as_one_request() -> None:
    queue = Queue(slots=1, max_waiting=20)
    queue.join("bob")
    for _ in range(3):
        queue.join("ann", asked_in="batch")
    with pytest.raises(AlreadyWaiting):
        queue.join("ann", asked_in="another")
    with pytest.raises(AlreadyWaiting):
        queue.join("ann")


async def test_who_has_waited_as_long_as_anybody_may_is_refused() -> None:
    queue = Queue(slots=1, max_waiting=20, max_wait=0.02)
    first, second = queue.join(), queue.join("ann")
    with pytest.raises(WaitedTooLong):
        await served(second, [])
    second.leave()
    first.leave()
    assert (queue.serving, queue.waiting) == (0, 0)


def test_the_sentence_of_one_that_waited_too_long_says_how_long_and_when_to_come_again() -> None:
    problem = WaitedTooLong(waiting=3, waited=600, seconds=140.2)
    assert problem.sentence("en") == (
        "This message has waited 10 minutes for its turn, and nobody waits longer here. Try again in about 3 minutes."
    )
    assert "10 мин" in problem.sentence("ru")


# Estimates


async def test_the_estimate_of_each_who_waits_is_that_of_all_before_it() -> None:
    clock, machine = Clock(), Machine()
    queue = Queue(1, 20, clock=clock)
    first = queue.join(expected=machine.request())
    second, third = queue.join(expected=machine.request("d", max_tokens=25)), queue.join(expected=machine.request("e"))
    # 10 s to read, 10 s to write; the second may write half as much.
    assert (queue.place(second), queue.place(third)) == (Place(1, 20.0), Place(2, 35.0))
    clock.now = 12.0  # the reading took longer, and has just ended
    first.writes()
    assert (queue.place(second), queue.place(third)) == (Place(1, 10.0), Place(2, 25.0))
    clock.now = 42.0  # and the reply is far longer than replies are
    assert queue.place(second).seconds_left == 3.0


async def test_a_full_queue_tells_when_a_place_in_it_is_free() -> None:
    clock, machine = Clock(), Machine()
    queue = Queue(1, 2, clock=clock)
    queue.join(expected=machine.request())
    queue.join("ann", expected=machine.request("d"))
    own = queue.join("bob", expected=machine.request("e"))
    clock.now = 5.5
    with pytest.raises(Busy) as full:
        queue.join(expected=machine.request("f"))
    assert full.value.seconds == 15
    with pytest.raises(AlreadyWaiting) as again:
        queue.join("bob", expected=machine.request("f"))
    assert again.value.seconds == 35
    own.leave()


async def test_two_slots_are_played_through_together() -> None:
    machine = Machine()
    queue = Queue(2, 20, clock=Clock())
    for _ in range(2):
        queue.join(expected=machine.request())
    waiting = [queue.join(expected=machine.request(str(n))) for n in range(3)]
    assert [queue.place(ticket).seconds_left for ticket in waiting] == [20.0, 20.0, 40.0]


async def test_behind_work_of_unknown_length_nothing_is_estimated() -> None:
    machine = Machine()
    queue = Queue(1, 20)
    queue.join()
    ticket = queue.join(expected=machine.request())
    assert queue.place(ticket) == Place(1, None)


@pytest.mark.parametrize(
    ("told", "passed", "now", "differs"),
    [
        (Place(1, 30.0), 10.0, Place(1, 20.0), False),
        (Place(1, 30.0), 10.0, Place(1, 23.9), False),
        (Place(1, 30.0), 10.0, Place(1, 24.1), True),
        (Place(1, 30.0), 10.0, Place(1, 15.9), True),
        (Place(1, 30.0), 40.0, Place(1, 1.9), False),
        (Place(1, 30.0), 40.0, Place(1, 2.1), True),
        (Place(1, 30.0), 10.0, Place(2, 20.0), True),
        (Place(1, None), 10.0, Place(1, 20.0), True),
        (Place(1, None), 10.0, Place(1, None), False),
    ],
)
def test_a_place_is_told_anew_when_it_is_clearly_another(told: Place, passed: float, now: Place, differs: bool) -> None:
    assert now.differs(told, passed) is differs


async def test_who_waits_is_told_when_the_reading_before_it_has_ended_sooner() -> None:
    clock, machine = Clock(), Machine()
    queue = Queue(1, 20, clock=clock)
    first, second = queue.join(expected=machine.request()), queue.join(expected=machine.request("d"))
    places: list[Place] = []

    async def wait() -> None:
        async for place in second.wait():
            places.append(place)

    task = asyncio.create_task(wait())
    await settled()
    clock.now = 2.0
    first.writes()
    await settled()
    first.leave()
    await task
    assert places == [Place(1, 20.0), Place(1, 10.0)]


# Warm conversations


def warm(machine: Machine, *conversations: str) -> None:
    for conversation in conversations:
        machine.warmth.used("m", conversation, Held(90, 0), None)


async def test_one_whose_conversation_is_held_goes_before_others_of_its_round() -> None:
    machine = Machine()
    queue = Queue(1, 20)
    served_now = queue.join(expected=machine.request())
    cold = queue.join(expected=machine.request("cold"))
    held = queue.join(expected=machine.request("held"))
    warm(machine, "held")
    assert (queue.ahead(held), queue.ahead(cold)) == (1, 2)
    served_now.leave()
    assert held.admitted


async def test_nobody_is_overtaken_twice() -> None:
    machine = Machine()
    queue = Queue(1, 20)
    tickets = {name: queue.join(expected=machine.request(name)) for name in ("now", "cold", "a", "new", "b")}
    warm(machine, "a", "b")
    order = []
    serving = "now"
    for _ in range(4):
        tickets.pop(serving).leave()
        serving = next(name for name, ticket in tickets.items() if ticket.admitted)
        order.append(serving)
    assert order == ["a", "cold", "b", "new"]


async def test_a_later_round_does_not_go_first_because_it_is_warm() -> None:
    machine = Machine()
    queue = Queue(1, 20)
    first = queue.join("ann", expected=machine.request())
    again = queue.join("ann", expected=machine.request("held"))
    other = queue.join("bob", expected=machine.request("cold"))
    warm(machine, "held")
    first.leave()
    assert other.admitted
    assert not again.admitted


# Whatever comes


# One leaves when the round has gone on already: those of its visitor stay in rounds of their own.
@example([(who, leaves == "-") for who, leaves in ("a+", "a+", "a+", "b+", "b+", "b-", "c-", "c-", "c-", "a-")], 2)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 3))
def test_nobody_s_first_request_waits_for_more_than_one_of_each_other(
    actions: list[tuple[str, bool]], slots: int
) -> None:
    queue = Queue(slots, 100, each=MANY)
    alive: list[Ticket] = []
    for who, leaves in actions:
        if leaves and alive:
            alive.pop(0).leave()
        alive.append(ticket := queue.join(who))
        alive.sort(key=lambda ticket: not ticket.admitted)
        others = [other for other in alive if other.who != who]
        if not ticket.admitted and sum(other.who == who for other in alive) == 1:
            waiting = [other for other in others if not other.admitted]
            before = [other.who for other in waiting if queue.ahead(other) < queue.ahead(ticket)]
            assert len(before) == len(set(before))


@given(st.lists(st.sampled_from(["join", "leave", "cancel"]), max_size=80), st.integers(1, 3), st.integers(0, 6))
def test_slots_are_never_lost_and_the_order_is_kept(actions: list[str], slots: int, room: int) -> None:
    queue = Queue(slots, room)
    alive: list[Ticket] = []
    for action in actions:
        if action == "join":
            try:
                alive.append(queue.join())
            except Busy:
                assert queue.waiting == room
        elif alive:
            index = 0 if action == "leave" else len(alive) - 1
            alive.pop(index).leave()
        assert queue.serving == min(len(alive), slots)
        assert queue.waiting == max(len(alive) - slots, 0)
        assert [ticket.admitted for ticket in alive] == [i < slots for i in range(len(alive))]
