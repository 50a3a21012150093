"""The window: what the model reads of a conversation."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.context import Budget, TurnTokens, Walk, walk, window
from app.errors import MessageTooLong, SystemPromptTooLong

sizes = st.builds(TurnTokens, st.integers(1, 400), st.integers(1, 700))
conversations = st.lists(sizes, max_size=60)
budgets = st.builds(
    Budget.of,
    context=st.integers(1024, 8192),
    max_tokens=st.integers(16, 4096),
    base=st.integers(0, 200),
    low_share=st.floats(0.1, 0.9),
)


@given(conversations, st.integers(1, 700), budgets)
def test_prompt_and_promised_reply_always_fit_the_context(
    turns: list[TurnTokens], question: int, budget: Budget
) -> None:
    if question > budget.high:
        with pytest.raises(MessageTooLong):
            window(turns, question, budget)
        return
    cut = window(turns, question, budget)
    assert cut.tokens + budget.reply <= budget.context
    assert cut.tokens + cut.reply == budget.context


@given(conversations, st.integers(1, 200), budgets)
def test_the_prompt_holds_the_newest_message_and_the_turns_since_the_cut(
    turns: list[TurnTokens], question: int, budget: Budget
) -> None:
    cut = window(turns, question, budget)
    assert cut.tokens == budget.base + sum(turn.total for turn in turns[cut.first :]) + question


@given(conversations, budgets, st.integers(0, 60))
def test_the_walk_can_go_on_from_any_beginning(turns: list[TurnTokens], budget: Budget, middle: int) -> None:
    middle = min(middle, len(turns))
    assert walk(turns, budget, walk(turns[:middle], budget)) == walk(turns, budget)


@given(conversations, budgets)
def test_turns_leave_the_window_and_never_come_back(turns: list[TurnTokens], budget: Budget) -> None:
    firsts = [walk(turns[:n], budget).first for n in range(len(turns) + 1)]
    assert firsts == sorted(firsts)


@given(conversations, budgets)
def test_between_two_cuts_each_window_extends_the_one_before(turns: list[TurnTokens], budget: Budget) -> None:
    before = Walk()
    for n, turn in enumerate(turns, start=1):
        now = walk(turns[:n], budget)
        if now.first == before.first:
            assert now.used == before.used + turn.total
        before = now


@given(st.lists(st.builds(TurnTokens, st.integers(5, 60), st.integers(5, 150)), min_size=200, max_size=300))
def test_cuts_are_rare_because_each_drops_about_half(turns: list[TurnTokens]) -> None:
    budget = Budget.of(4096, 1024, 8, 0.5)
    firsts = [walk(turns[:n], budget).first for n in range(len(turns) + 1)]
    cuts = sum(a != b for a, b in pairwise(firsts))
    tokens = sum(turn.total for turn in turns)
    # Between two cuts at least the room from the low-water mark to the high one, less a message's, is filled.
    assert cuts <= tokens / (budget.high - budget.low - budget.next_message - 210) + 1


def test_a_cut_is_made_when_a_turn_ends_with_too_little_room_for_a_next_message() -> None:
    budget = Budget(context=1000, reply=200, base=0, low_share=0.5)
    turns = [TurnTokens(100, 100)] * 3 + [TurnTokens(60, 60)]
    assert walk(turns, budget) == Walk(turns=4, first=2, used=320)


def test_a_last_turn_that_leaves_no_room_leaves_the_window_itself() -> None:
    budget = Budget(context=1000, reply=200, base=0, low_share=0.5)
    assert walk([TurnTokens(100, 690)], budget) == Walk(turns=1, first=1, used=0)


def test_a_message_that_alone_does_not_fit_is_refused_with_both_numbers() -> None:
    budget = Budget.of(1024, 256, 24, 0.5)
    with pytest.raises(MessageTooLong) as refused:
        window([], 900, budget)
    assert refused.value.facts == {"tokens": 900, "limit": 744}
    assert "900" in refused.value.sentence("ru")
    assert "744" in refused.value.sentence("en")


def test_a_system_prompt_that_fills_the_context_is_what_is_refused() -> None:
    budget = Budget.of(1024, 256, 700, 0.5)
    with pytest.raises(SystemPromptTooLong) as refused:
        window([], 100, budget)
    assert refused.value.facts == {"tokens": 700, "left": 68, "needed": 100}
    with pytest.raises(MessageTooLong):  # too long without it, too
        window([], 900, budget)
    with pytest.raises(MessageTooLong):  # the larger of the two is the message
        window([], 500, Budget.of(1024, 256, 400, 0.5))


def test_a_long_reply_is_promised_a_quarter_of_the_context_at_most() -> None:
    assert Budget.of(4096, 4096, 0, 0.5).reply == 1024
    assert Budget.of(4096, 100, 0, 0.5).reply == 100
