"""The queue in front of an engine."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.admission import Queue, Ticket
from app.errors import Busy


async def served(ticket: Ticket, seen: list[int]) -> None:
    async for ahead in ticket.wait():
        seen.append(ahead)


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
    await asyncio.sleep(0)
    first.leave()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
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


async def test_leaving_twice_gives_back_one_slot() -> None:
    queue = Queue(slots=1, max_waiting=3)
    first, second, third = queue.join(), queue.join(), queue.join()
    first.leave()
    first.leave()
    assert second.admitted
    assert not third.admitted


async def test_who_sends_ten_requests_does_not_put_nine_before_who_sends_one() -> None:
    queue = Queue(slots=1, max_waiting=20)
    many = [queue.join("ann") for _ in range(10)]
    one, stranger = queue.join("bob"), queue.join()
    seen: list[int] = []
    waiting = asyncio.create_task(served(one, seen))
    await asyncio.sleep(0)
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
    await asyncio.sleep(0)
    queue.join("bob")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    assert seen == [1, 2]


async def test_who_was_served_long_ago_has_no_better_place_than_who_comes_for_the_first_time() -> None:
    queue = Queue(slots=1, max_waiting=20)
    for _ in range(5):
        queue.join("ann").leave()
    queue.join("carol")
    first, second = queue.join("bob"), queue.join("ann")
    assert (queue.ahead(first), queue.ahead(second)) == (1, 2)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 3))
def test_nobody_s_first_request_waits_for_more_than_one_of_each_other(
    actions: list[tuple[str, bool]], slots: int
) -> None:
    async def play() -> None:
        queue = Queue(slots, 100)
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

    asyncio.run(play())


@given(st.lists(st.sampled_from(["join", "leave", "cancel"]), max_size=80), st.integers(1, 3), st.integers(0, 6))
def test_slots_are_never_lost_and_the_order_is_kept(actions: list[str], slots: int, room: int) -> None:
    async def play() -> None:
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

    asyncio.run(play())


def test_it_tells_of_each_who_joins_and_when_the_last_one_has_left() -> None:
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
