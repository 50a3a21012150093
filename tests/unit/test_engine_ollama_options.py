"""What programs ask of the Ollama engine beyond a chat: ends, seeds, JSON, functions, raw text, vectors."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from app.engines.base import (
    ChatMessage,
    CompletionRequest,
    Delta,
    EngineEvent,
    GenerationOptions,
    JsonFormat,
    ToolCall,
    ToolCalls,
)
from app.engines.ollama import OllamaEngine
from app.engines.ollama_reply import ReplyReader
from app.errors import EngineFailed, EngineRefused, PromptTooLong, TextTooLong, Unsupported
from tests.fakes.models import model_named
from tests.fakes.ollama import FakeOllama
from tests.unit.completions import end_of, events_of, text_of
from tests.unit.conftest import Connect

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
}


def request(
    *messages: str | ChatMessage, model: str = "gemma2:2b", raw: bool = False, **options: Any
) -> CompletionRequest:
    said = tuple(ChatMessage("user", message) if isinstance(message, str) else message for message in messages)
    return CompletionRequest(model, said, GenerationOptions(**options), 4096, "c", raw=raw)


def calls_of(events: list[EngineEvent]) -> list[ToolCall]:
    return [call for event in events if isinstance(event, ToolCalls) for call in event.calls]


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    """One with a model that only chats, one that uses functions and one that embeds, that waits for nothing."""
    async with FakeOllama(*map(model_named, ("gemma2:2b", "qwen3:4b", "bge-m3")), speedup=math.inf) as fake:
        yield fake


@pytest.fixture
def engine(ollama: FakeOllama, connect: Connect) -> OllamaEngine:
    return connect(ollama.url)


# How to sample and where to end


async def test_how_a_program_wants_it_sampled_is_sent(ollama: FakeOllama, engine: OllamaEngine) -> None:
    wanted = {"seed": 7, "presence_penalty": 0.5, "frequency_penalty": -1.0}
    await events_of(engine, request("hello", **wanted))
    assert {key: ollama.requests[-1]["options"][key] for key in wanted} == wanted
    await events_of(engine, request("hello", seed=0))
    assert ollama.requests[-1]["options"]["seed"] == 0


async def test_what_nobody_asked_for_is_not_sent(ollama: FakeOllama, engine: OllamaEngine) -> None:
    await events_of(engine, request("hello"))
    sent = ollama.requests[-1]
    assert sent["options"].keys() == {"num_ctx", "num_batch", "num_predict", "temperature", "top_p"}
    assert not sent.keys() & {"tools", "format", "raw", "prompt"}


async def test_none_of_it_loads_the_model_again(ollama: FakeOllama, engine: OllamaEngine) -> None:
    asked = [
        request("hello", stop=("x",), seed=1, presence_penalty=1.0),
        request("hello", json=JsonFormat()),
        request("hello", raw=True),
        request("hello"),
    ]
    for one in asked:
        await events_of(engine, one)
    assert ollama.loads == 1


async def test_a_reply_ends_before_a_stop_text_and_has_none_of_it(engine: OllamaEngine) -> None:
    events = await events_of(engine, request("!echo one two three four", stop=("five", "three")))
    assert (text_of(events), end_of(events).finish_reason) == ("one two ", "stop")


async def test_a_models_own_stop_texts_stay_beside_those_of_the_request(
    ollama: FakeOllama, engine: OllamaEngine
) -> None:
    await events_of(engine, request("hello", stop=("END", "<end_of_turn>")))
    assert ollama.requests[-1]["options"]["stop"] == ["END", "<end_of_turn>", "<start_of_turn>"]


# JSON


async def test_any_json_object_can_be_asked_for(ollama: FakeOllama, engine: OllamaEngine) -> None:
    events = await events_of(engine, request("hello", json=JsonFormat()))
    assert ollama.requests[-1]["format"] == "json"
    assert isinstance(json.loads(text_of(events)), dict)


async def test_json_by_a_schema_can_be_asked_for(ollama: FakeOllama, engine: OllamaEngine) -> None:
    events = await events_of(engine, request("hello", json=JsonFormat(SCHEMA, "weather")))
    assert ollama.requests[-1]["format"] == SCHEMA
    assert json.loads(text_of(events)).keys() == {"city", "degrees"}


# Functions


async def test_a_model_asks_for_functions_with_their_arguments_as_text(
    ollama: FakeOllama, engine: OllamaEngine
) -> None:
    asked = '!call get_weather {"city": "Paris"}\n!call get_weather {"city": "Москва"}'
    events = await events_of(engine, request(asked, model="qwen3:4b", tools=(WEATHER,)))
    assert ollama.requests[-1]["tools"] == [WEATHER]
    calls = calls_of(events)
    assert [(call.name, call.arguments) for call in calls] == [
        ("get_weather", '{"city": "Paris"}'),
        ("get_weather", '{"city": "Москва"}'),
    ]
    assert len({call.id for call in calls}) == 2
    assert (text_of(events), end_of(events).finish_reason) == ("", "tool_calls")


def test_a_call_without_an_id_is_given_one() -> None:
    line = {"message": {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}] * 2}}
    (event,) = ReplyReader("qwen3:4b").feed(json.dumps(line).encode())
    assert isinstance(event, ToolCalls)
    assert len({call.id for call in event.calls}) == 2
    assert all(call.id.startswith("call_") for call in event.calls)


def test_a_call_that_is_none_is_a_failure() -> None:
    line = {"message": {"content": "", "tool_calls": [{"function": {"arguments": "x"}}]}}
    with pytest.raises(EngineFailed):
        ReplyReader("qwen3:4b").feed(json.dumps(line).encode())


def test_text_before_a_call_comes_before_it() -> None:
    line = {"message": {"content": "Let me see.", "tool_calls": [{"function": {"name": "f"}}]}}
    first, second = ReplyReader("qwen3:4b").feed(json.dumps(line).encode())
    assert first == Delta("Let me see.")
    assert isinstance(second, ToolCalls)


async def test_what_functions_have_answered_is_sent_in_ollamas_words(ollama: FakeOllama, engine: OllamaEngine) -> None:
    call = ToolCall("call_1", "get_weather", '{"city": "Paris"}')
    told = ChatMessage("tool", "22 °C", tool_call_id="call_1")
    messages = ("Is it hot in Paris?", ChatMessage("assistant", "", (call,)), told)
    events = await events_of(engine, request(*messages, model="qwen3:4b", tools=(WEATHER,)))
    assert ollama.requests[-1]["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_1", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}],
        },
        {"role": "tool", "content": "22 °C", "tool_name": "get_weather", "tool_call_id": "call_1"},
    ]
    assert end_of(events).finish_reason == "stop"


async def test_arguments_that_are_no_object_are_refused(engine: OllamaEngine) -> None:
    call = ToolCall("call_1", "get_weather", "[Paris")
    with pytest.raises(EngineRefused, match="get_weather"):
        await events_of(engine, request("hi", ChatMessage("assistant", "", (call,)), "go on", model="qwen3:4b"))


async def test_a_model_that_must_not_use_functions_is_not_told_of_any(ollama: FakeOllama, engine: OllamaEngine) -> None:
    asked = request('!call get_weather {"city": "Paris"}', model="qwen3:4b", tools=(WEATHER,), tool_choice="none")
    assert calls_of(await events_of(engine, asked)) == []
    assert "tools" not in ollama.requests[-1]


async def test_a_model_known_not_to_use_functions_is_not_asked_to(ollama: FakeOllama, engine: OllamaEngine) -> None:
    told = ChatMessage("tool", "22 °C", tool_call_id="call_1")
    for asked in (request("hi", tools=(WEATHER,)), request("hi", told)):
        with pytest.raises(Unsupported) as refused:
            await events_of(engine, asked)
        assert refused.value.facts["parameter"] == "tools"
    assert ollama.requests == []


async def test_a_refused_function_is_no_reason_to_load_the_model_again(
    ollama: FakeOllama, engine: OllamaEngine
) -> None:
    await events_of(engine, request("hi"))
    engine._known["gemma2:2b"] = replace(engine._known["gemma2:2b"], can_use_tools=None)  # as an old server's
    with pytest.raises(Unsupported) as refused:
        await events_of(engine, request("hi", tools=(WEATHER,)))
    assert refused.value.facts["parameter"] == "tools"
    await events_of(engine, request("hi"))
    assert [bool(sent["messages"]) for sent in ollama.requests] == [False, True, True, True]


# Raw text


async def test_raw_text_is_generated_with_the_options_of_a_chat(ollama: FakeOllama, engine: OllamaEngine) -> None:
    await events_of(engine, request("hello"))
    events = await events_of(engine, request("!echo one two three", raw=True, max_tokens=9, stop=("three",)))
    sent = ollama.requests[-1]
    assert (text_of(events), end_of(events).finish_reason) == ("one two ", "stop")
    assert (sent["raw"], sent["truncate"], sent["shift"], sent["keep_alive"]) == (True, False, False, -1)
    assert (sent["options"]["num_ctx"], sent["options"]["num_predict"]) == (4096, 9)
    assert end_of(events).usage.prompt_tokens == 1 + len(["!", "echo", "one", "two", "three"])  # no template around it


async def test_a_tag_in_raw_text_is_text(engine: OllamaEngine) -> None:
    assert text_of(await events_of(engine, request("!echo <think>hm</think>yes", raw=True))) == "<think>hm</think>yes"


async def test_raw_text_that_is_too_long_is_refused_with_its_size(engine: OllamaEngine) -> None:
    with pytest.raises(PromptTooLong) as refused:
        await events_of(engine, request("word " * 5000, raw=True))
    assert (refused.value.tokens, refused.value.limit) == (5001, 4096)


async def test_a_raw_reply_that_ends_without_an_end_has_repeated_itself(engine: OllamaEngine) -> None:
    assert end_of(await events_of(engine, request("!repeat", raw=True))).finish_reason == "repetition"


# Vectors


async def test_each_text_gets_its_vector_and_the_tokens_are_told(ollama: FakeOllama, engine: OllamaEngine) -> None:
    texts = [f"text number {n}" for n in range(40)]
    found = await engine.embed("bge-m3:latest", texts, 4096)
    alone = await engine.embed("bge-m3:latest", texts[33:34], 4096)
    assert (len(found.vectors), {len(vector) for vector in found.vectors}) == (40, {1024})
    assert found.vectors[33] == alone.vectors[0] != found.vectors[0]
    assert found.prompt_tokens == 40 * (alone.prompt_tokens or 0)
    assert [len(sent["input"]) for sent in ollama.embedded] == [16, 16, 8, 1]
    assert ollama.loads == 1


async def test_nothing_to_embed_is_not_asked_for(ollama: FakeOllama, engine: OllamaEngine) -> None:
    assert (await engine.embed("bge-m3:latest", [], 4096)).vectors == ()
    assert ollama.embedded == []


async def test_a_text_may_be_as_long_as_the_context_though_chats_are_read_in_small_batches(
    ollama: FakeOllama, engine: OllamaEngine
) -> None:
    found = await engine.embed("bge-m3:latest", ["word " * 1000], 4096)
    assert found.prompt_tokens == 1002
    sent = ollama.embedded[-1]
    assert (sent["truncate"], sent["keep_alive"]) == (False, -1)
    assert (sent["options"]["num_ctx"], sent["options"]["num_batch"]) == (4096, 4096)


async def test_a_text_that_is_too_long_is_refused_and_never_cut(engine: OllamaEngine) -> None:
    with pytest.raises(TextTooLong) as refused:
        await engine.embed("bge-m3:latest", ["word " * 5000], 4096)
    assert refused.value.code == "context_length_exceeded"


async def test_a_text_too_long_for_a_batch_is_refused_with_both_sizes(ollama: FakeOllama, engine: OllamaEngine) -> None:
    await engine.models()
    engine._known["bge-m3:latest"] = replace(engine._known["bge-m3:latest"], can_chat=True)  # as an old server's
    with pytest.raises(PromptTooLong) as refused:
        await engine.embed("bge-m3:latest", ["word " * 100], 4096)
    assert (refused.value.tokens, refused.value.limit) == (102, 64)


async def test_a_chat_goes_on_without_loading_after_vectors_were_made(ollama: FakeOllama, engine: OllamaEngine) -> None:
    await events_of(engine, request("hello"))
    await engine.embed("bge-m3:latest", ["hello"], 4096)
    await events_of(engine, request("hello"))
    assert ollama.loads == 2


async def test_a_model_that_only_embeds_is_not_talked_to(engine: OllamaEngine) -> None:
    with pytest.raises(Unsupported) as refused:
        await events_of(engine, request("hello", model="bge-m3:latest"))
    assert refused.value.facts["parameter"] == "messages"


async def test_leaving_while_vectors_are_made_frees_the_model(connect: Connect) -> None:
    async with FakeOllama(model_named("bge-m3"), load_seconds=60) as ollama:
        task = asyncio.create_task(connect(ollama.url).embed("bge-m3:latest", ["hello"], 4096))
        while not ollama.busy:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ollama.idle.wait()
        assert ollama.cancelled == 1
