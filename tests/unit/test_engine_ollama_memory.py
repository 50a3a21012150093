"""What an Ollama is believed to hold in memory."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from app.engines.base import ChatMessage, CompletionRequest, GenerationOptions, ToolCall
from app.engines.ollama_memory import Memory, Part, parts_of
from app.errors import EngineFailed, EngineRefused

SMALL, LARGE = ("gemma2:2b", 4096), ("gemma2:2b", 8192)


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def request(*messages: ChatMessage, raw: bool = False, **options: object) -> CompletionRequest:
    return CompletionRequest("gemma2:2b", messages, GenerationOptions(**options), 4096, raw=raw)  # type: ignore[arg-type]


def conversation(*texts: str) -> tuple[Part, ...]:
    return parts_of(request(*(ChatMessage("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))))


def raw(text: str) -> tuple[Part, ...]:
    return parts_of(request(ChatMessage("user", text), raw=True))


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


def test_a_model_that_ollama_lists_no_more_has_lost_its_conversation(memory: Memory) -> None:
    memory.answered(SMALL, conversation("hello"))
    memory.gone(LARGE)
    assert memory.unread(SMALL, conversation("hello")) == 0
    memory.gone(SMALL)
    with memory.loading(SMALL):
        pass
    assert memory.unread(SMALL, conversation("hello")) == 1


def test_raw_text_shares_its_beginning_with_the_raw_text_before_it_and_with_no_message(memory: Memory) -> None:
    memory.answered(SMALL, raw("abcdef"))
    assert memory.unread(SMALL, raw("abcdefgh")) == pytest.approx(0.25)
    assert memory.unread(SMALL, raw("abcx")) == pytest.approx(0.25)
    assert memory.unread(SMALL, conversation("abcdef")) == 1


def test_functions_are_read_before_the_conversation_unless_none_may_be_used(memory: Memory) -> None:
    tools = ({"type": "function", "function": {"name": "f", "parameters": {}}},)
    hello = ChatMessage("user", "hello")
    offered, plain = request(hello, tools=tools), request(hello)
    memory.answered(SMALL, parts_of(plain))
    assert memory.unread(SMALL, parts_of(offered)) == 1
    memory.answered(SMALL, parts_of(offered))
    assert memory.unread(SMALL, parts_of(offered)) == 0
    assert parts_of(request(hello, tools=tools, tool_choice="none")) == parts_of(plain)


def test_what_a_function_was_asked_with_belongs_to_the_reply(memory: Memory) -> None:
    call = ToolCall("1", "weather", '{"city": "Paris"}')
    first, asked = ChatMessage("user", "hot?"), ChatMessage("assistant", "", (call,))
    answer = ChatMessage("tool", "x" * 28, tool_call_id="1")
    memory.answered(SMALL, parts_of(request(first)))
    assert memory.unread(SMALL, parts_of(request(first, asked, answer))) == pytest.approx(0.5)


@pytest.mark.parametrize(("model", "unread"), [("bge-m3", 0), ("gemma2:2b", 1)])
def test_after_vectors_were_made_nothing_is_trusted_and_only_that_models_own_cache_is_lost(
    memory: Memory, model: str, unread: int
) -> None:
    memory.answered(SMALL, conversation("hello"))
    memory.embedded(model)
    assert not memory.trusts(SMALL)
    assert memory.unread(SMALL, conversation("hello")) == unread
