"""What an engine is believed to hold ready."""

from __future__ import annotations

from app.warmth import Held, Warmth

MODEL = "ollama/gemma2:2b"


def warmth(*conversations: tuple[str, int], room: int | None, slots: int = 1) -> Warmth:
    found = Warmth(slots)
    for name, tokens in conversations:
        found.used(MODEL, name, Held(tokens, 0), room)
    return found


def test_the_newest_conversation_is_in_the_slot_and_the_one_before_in_the_cache() -> None:
    found = warmth(("a", 700), ("b", 800), room=1600)
    assert found.in_slot(MODEL, "b")
    assert not found.in_slot(MODEL, "a")
    assert found.held(MODEL, "a") == Held(700, 0)
    assert found.tokens(MODEL) == 1500


def test_without_a_cache_only_the_slot_is_warm() -> None:
    found = warmth(("a", 700), ("b", 800), room=0)
    assert found.held(MODEL, "a") is None
    assert found.held(MODEL, "b") == Held(800, 0)


def test_the_cache_has_to_hold_the_one_who_leaves_beside_the_one_who_comes_back() -> None:
    """Measured: two visitors of 750 tokens take turns only where both fit."""
    assert warmth(("a", 750), ("b", 750), room=1500).held(MODEL, "a") == Held(750, 0)
    small = warmth(("a", 750), ("b", 750), room=1400)
    assert small.held(MODEL, "a") is None
    assert small.held(MODEL, "b") == Held(750, 0)
    small.used(MODEL, "a", Held(760, 0), 1400)
    assert small.held(MODEL, "b") is None
    assert small.tokens(MODEL) == 1510


def test_the_oldest_goes_first() -> None:
    found = warmth(("a", 400), ("b", 400), ("c", 400), ("d", 400), room=900)
    assert [name for name in "abcd" if found.held(MODEL, name)] == ["c", "d"]
    assert found.tokens(MODEL) == 1200


def test_going_on_in_the_slot_throws_nobody_out() -> None:
    found = warmth(("a", 500), ("b", 500), ("b", 3000), room=3500)
    assert found.held(MODEL, "a") == Held(500, 0)


def test_two_slots_hold_two_conversations_without_a_cache() -> None:
    found = warmth(("a", 700), ("b", 800), ("c", 900), room=0, slots=2)
    assert [name for name in "abc" if found.held(MODEL, name)] == ["b", "c"]
    assert found.in_slot(MODEL, "b")


def test_another_model_takes_the_memory() -> None:
    found = warmth(("a", 700), room=None)
    found.used("ollama/phi3", "b", Held(10, 0), None)
    assert found.held(MODEL, "a") is None
    assert found.held("ollama/phi3", "b") == Held(10, 0)
    found.forget()
    assert found.held("ollama/phi3", "b") is None


def test_what_is_in_use_is_what_others_have_used_lately_and_not_lost() -> None:
    now = 0.0
    found = Warmth(clock=lambda: now)
    for name in "abcd":
        found.used(MODEL, name, Held(400, 0), 1300)
        now += 100
    assert found.in_use(MODEL, "d", 1000) == 800  # a was pushed out
    assert found.in_use(MODEL, "d", 250) == 400
    assert found.in_use(MODEL, "new", 250) == 800
    assert found.in_use("ollama/phi3", "d", 1000) == 0


def test_those_in_other_slots_need_no_room() -> None:
    found = warmth(("a", 700), ("b", 800), ("c", 900), room=2000, slots=2)
    assert found.in_use(MODEL, "new", 1000) == 700 + 800


def test_not_every_conversation_of_a_server_s_life_is_remembered() -> None:
    found = warmth(*((f"c{n}", 10) for n in range(3000)), room=None)
    assert found.tokens(MODEL) == 10_000
    assert found.held(MODEL, "c2999") == Held(10, 0)
    assert found.in_use(MODEL, "new", 1000) == 10_000
