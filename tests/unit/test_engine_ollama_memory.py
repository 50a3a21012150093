"""What an Ollama is believed to hold in memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from app.engines.base import ChatMessage
from app.engines.ollama_memory import Memory
from app.errors import EngineFailed, EngineRefused

SMALL, LARGE = ("gemma2:2b", 4096), ("gemma2:2b", 8192)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def conversation(*texts: str) -> list[ChatMessage]:
    return [ChatMessage("assistant" if n % 2 else "user", text) for n, text in enumerate(texts)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> Memory:
    return Memory(clock)


def test_a_model_is_trusted_for_half_a_minute_after_it_answered(memory: Memory, clock: Clock) -> None:
    assert not memory.trusts(SMALL)
    memory.answered(SMALL, conversation("hello"))
    clock.now = 29.9
    assert memory.trusts(SMALL)
    clock.now = 30
    assert not memory.trusts(SMALL)


def test_a_load_takes_the_place_of_the_same_model_with_another_context(memory: Memory) -> None:
    for load in (SMALL, LARGE):
        with memory.loading(load):
            assert memory.must_load(load)
        assert not memory.must_load(load)
    assert memory.trusts(LARGE)
    assert not memory.trusts(SMALL)


def test_a_load_that_failed_is_not_trusted(memory: Memory) -> None:
    with pytest.raises(EngineFailed), memory.loading(SMALL):
        raise EngineFailed(engine="Ollama", detail="")
    assert not memory.trusts(SMALL)
    assert not memory.must_load(SMALL)


def test_after_a_failure_a_model_must_be_loaded_whatever_ollama_lists(memory: Memory) -> None:
    memory.answered(SMALL, conversation("hello"))
    with pytest.raises(EngineFailed), memory.doubting(SMALL):
        raise EngineFailed(engine="Ollama", detail="")
    assert memory.must_load(SMALL)
    assert memory.unread(SMALL, conversation("hello")) == 1
    with memory.loading(SMALL):
        pass
    assert not memory.must_load(SMALL)


def test_a_refusal_is_no_reason_to_doubt(memory: Memory) -> None:
    memory.answered(SMALL, conversation("hello"))
    with pytest.raises(EngineRefused), memory.doubting(SMALL):
        raise EngineRefused(engine="Ollama", detail="")
    assert memory.trusts(SMALL)


@pytest.mark.parametrize(
    ("held", "prompt", "unread"),
    [
        (["aaaa"], ["aaaa"], 0),
        (["aaaa"], ["aaaa", "bbbb", "cc"], 0.2),
        (["aaaa"], ["xxxx"], 1),
        (["aaaa", "bbbb", "cc"], ["aaaa", "bbbb", "dd"], 0.2),
        (["aaaa", "bbbb", "cc"], ["aaaa"], 0),
        (["aaaa"], [""], 1),
    ],
)
def test_what_is_common_at_the_beginning_need_not_be_read(
    memory: Memory, held: list[str], prompt: list[str], unread: float
) -> None:
    memory.answered(SMALL, conversation(*held))
    assert memory.unread(SMALL, conversation(*prompt)) == pytest.approx(unread)


def test_another_load_holds_nothing_of_a_conversation(memory: Memory) -> None:
    memory.answered(SMALL, conversation("hello"))
    assert memory.unread(LARGE, conversation("hello")) == 1
    with memory.loading(LARGE):
        pass
    assert memory.unread(LARGE, conversation("hello")) == 1


def test_a_load_of_what_is_loaded_already_keeps_its_conversation(memory: Memory) -> None:
    memory.answered(SMALL, conversation("hello"))
    with memory.loading(SMALL):
        pass
    assert memory.unread(SMALL, conversation("hello")) == 0
