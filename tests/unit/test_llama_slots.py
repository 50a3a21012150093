"""Each conversation in its own slot of llama.cpp."""

from __future__ import annotations

from collections.abc import Collection

from app.engines.llama_slots import LlamaSlots


class Clock:
    """Seconds that are set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def used(slots: LlamaSlots, conversation: str | None, count: int = 2, working: Collection[int] = ()) -> int | None:
    with slots.taken(conversation, count, working) as slot:
        return slot


def test_a_conversation_comes_back_to_its_slot_and_a_new_one_takes_an_empty_one() -> None:
    slots = LlamaSlots()
    assert [used(slots, name) for name in ("a", "b", "a", "b")] == [0, 1, 0, 1]


def test_where_none_is_empty_the_one_that_was_used_longest_ago_goes() -> None:
    slots = LlamaSlots()
    assert [used(slots, name) for name in ("a", "b", "a", "c", "b", "a")] == [0, 1, 0, 1, 0, 1]


def test_nobody_waits_for_its_slot_while_another_is_free() -> None:
    slots = LlamaSlots()
    assert used(slots, "a") == 0
    with slots.taken("b", 2), slots.taken("c", 2) as other:
        assert other == 0
        # All work: the server may choose.
        assert used(slots, "a") is None
    assert used(slots, "c") == 0


def test_nobody_waits_for_a_slot_in_which_another_programs_request_is_worked_on() -> None:
    clock = Clock()
    slots = LlamaSlots(clock)
    assert used(slots, "a") == 0
    clock.now = 60
    assert used(slots, "a", working={0}) == 1
    assert used(slots, "b", working={0, 1}) == 1  # it was ours a moment ago
    clock.now = 120
    assert used(slots, "b", working={0, 1}) is None


def test_a_slot_that_was_left_a_moment_ago_is_not_taken_for_another_programs() -> None:
    clock = Clock()
    slots = LlamaSlots(clock)
    assert used(slots, "a") == 0
    clock.now = 3
    assert used(slots, "a", working={0}) == 0


def test_a_slot_is_free_again_after_a_failure() -> None:
    slots = LlamaSlots()
    try:
        with slots.taken("a", 2):
            raise RuntimeError
    except RuntimeError:
        pass
    assert used(slots, "a") == 0


def test_the_server_chooses_where_it_has_one_slot_and_for_what_does_not_come_back() -> None:
    slots = LlamaSlots()
    assert used(slots, "a", 1) is None
    assert used(slots, None) is None


def test_slots_that_are_gone_are_not_chosen() -> None:
    slots = LlamaSlots()
    for name in "abc":
        used(slots, name, 3)
    assert used(slots, "c", 2) == 0
    slots.forget()
    assert used(slots, "b") == 0
