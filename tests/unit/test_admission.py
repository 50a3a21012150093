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
