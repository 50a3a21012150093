"""SessionHistory: what one conversation holds, and the prompt made of it."""

from __future__ import annotations

from app.context import Budget
from app.engines.base import ChatMessage
from app.history import SessionHistory, StoredMessage, Turn

BUDGET = Budget.of(1000, 200, 10, 0.5)


def words(text: str) -> int:
    return len(text.split()) + 1


def conversation(turns: int) -> SessionHistory:
    history = SessionHistory("c")
    for n in range(turns):
        history.ask(StoredMessage(f"q{n}", f"question {n}"))
        history.answer(f"q{n}", StoredMessage(f"a{n}", f"answer {n}", role="assistant"))
    return history


def test_a_prompt_has_the_system_prompt_first_and_the_question_last() -> None:
    history = conversation(1)
    history.ask(StoredMessage("q1", "and now?"))
    prompt = history.prompt("be kind", "m", BUDGET, words)
    assert prompt.messages == (
        ChatMessage("system", "be kind"),
        ChatMessage("user", "question 0"),
        ChatMessage("assistant", "answer 0"),
        ChatMessage("user", "and now?"),
    )


def test_a_question_without_an_answer_is_not_read() -> None:
    history = SessionHistory("c")
    history.ask(StoredMessage("q0", "lost"))
    history.ask(StoredMessage("q1", "here"))
    assert [m.content for m in history.prompt("", "m", BUDGET, words).messages] == ["here"]


def test_an_edited_question_replaces_itself_and_all_that_came_after() -> None:
    history = conversation(3)
    history.ask(StoredMessage("q1", "other"))
    assert [m.content for m in history.prompt("", "m", BUDGET, words).messages] == ["question 0", "answer 0", "other"]
    assert len(history) == 2


def test_an_answer_to_a_question_that_was_edited_away_is_dropped() -> None:
    history = conversation(2)
    history.ask(StoredMessage("q0", "anew"))
    history.answer("q1", StoredMessage("late", "late", role="assistant"))
    assert all(turn.answer is None for turn in history)


def test_the_engines_count_becomes_the_size_of_what_was_new() -> None:
    history = conversation(0)
    history.ask(StoredMessage("q0", "one two three"))
    prompt = history.prompt("", "m", BUDGET, words)
    assert history.learn(prompt, "m", 50, words) == [(prompt.stored[0], 40)]
    history.answer("q0", StoredMessage("a0", "fine", {"m": 7}, "assistant"))
    history.ask(StoredMessage("q1", "more"))
    prompt = history.prompt("", "m", BUDGET, words)
    assert prompt.window.tokens == 10 + 40 + 7 + words("more")
    history.learn(prompt, "m", 70, words)
    assert prompt.stored[-1].tokens["m"] == 70 - 10 - 40 - 7


def test_sizes_are_known_by_model() -> None:
    history = conversation(2)
    history.ask(StoredMessage("q2", "more"))
    prompt = history.prompt("", "one", BUDGET, words)
    history.learn(prompt, "one", 510, words)
    assert sum(message.tokens["one"] for message in prompt.stored) == 500
    other = history.prompt("", "two", BUDGET, words)
    assert other.window.tokens == 10 + sum(words(m.text) for m in other.stored)


def test_a_prompt_depends_on_the_stored_conversation_alone() -> None:
    live = conversation(0)
    for n in range(60):
        live.ask(StoredMessage(f"q{n}", "word " * 20))
        prompt = live.prompt("", "m", BUDGET, words)
        live.learn(prompt, "m", 10 + sum(m.tokens.get("m", 33) for m in prompt.stored), words)
        live.answer(f"q{n}", StoredMessage(f"a{n}", "reply " * 30, {"m": 31}, "assistant"))
    stored = [Turn(StoredMessage(t.question.id, t.question.text, dict(t.question.tokens)), t.answer) for t in live]
    again = SessionHistory("c", stored)
    for history in (live, again):
        history.ask(StoredMessage("new", "and?"))
    assert live.prompt("", "m", BUDGET, words).messages == again.prompt("", "m", BUDGET, words).messages
    assert live.prompt("", "m", BUDGET, words).window.first > 0


def test_a_look_ahead_changes_nothing_for_an_answer_that_is_gone_on_with() -> None:
    prompts = []
    for looks in (False, True):
        history = conversation(3)
        if looks:
            with history.next_question():
                history.scale("m", words)
                history.prompt("", "m", BUDGET, words)
        assert history.last is not None
        history.scale("m", words)
        prompts.append(history.prompt("", "m", BUDGET, words, begun=history.last.answer))
    assert prompts[0] == prompts[1]


def test_an_answer_that_comes_after_the_next_question_is_counted() -> None:
    prompts = []
    for late in (False, True):
        history = conversation(2)
        history.ask(StoredMessage("q2", "question 2"))
        if late:
            with history.next_question():
                history.scale("m", words)
                history.prompt("", "m", BUDGET, words)
        history.answer("q2", StoredMessage("a2", "word " * 50, {"m": 60}, "assistant"))
        history.ask(StoredMessage("q3", "and now?"))
        history.scale("m", words)
        prompts.append(history.prompt("", "m", BUDGET, words))
    assert prompts[0] == prompts[1]
