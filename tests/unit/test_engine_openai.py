"""The engine for servers with OpenAI's API, against a fake of each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence

import pytest
from pydantic import SecretStr

from app.engines.base import (
    ChatMessage,
    CompletionRequest,
    Delta,
    Done,
    EngineEvent,
    GenerationOptions,
    Loading,
    Reading,
    Usage,
)
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.engines.speeds import SpeedBook
from app.errors import EngineFailed, EngineRefused, EngineUnreachable
from tests.fakes.openai_server import Answer, FakeOpenAI, Flavour

FLAVOURS: Sequence[Flavour] = ("vllm", "llama.cpp", "lm-studio", "ollama", "transformers")
SWITCH = "{% if enable_thinking is false %}<think>\n\n</think>{% endif %}"


def request(
    text: str = "hello", *, model: str = "gemma2-2b", expected: int = 0, options: GenerationOptions | None = None
) -> CompletionRequest:
    messages = (ChatMessage("system", "Be kind."), ChatMessage("user", text))
    return CompletionRequest(model, messages, options or GenerationOptions(), 4096, "c", expected)


async def events_of(engine: OpenAICompatibleEngine, asked: CompletionRequest | None = None) -> list[EngineEvent]:
    return [event async for event in engine.complete(asked or request())]


def text_of(events: Sequence[EngineEvent], kind: str = "answer") -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.kind == kind)


def end_of(events: Sequence[EngineEvent]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


@pytest.fixture
async def vllm() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI("vllm") as server:
        yield server


@pytest.fixture
async def llama() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI("llama.cpp", template=SWITCH) as server:
        yield server


# A reply


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_a_reply_streams_from_each_kind_of_server(flavour: Flavour) -> None:
    async with FakeOpenAI(flavour) as server:
        server.script(Answer("A longer reply, in pieces."))
        events = await events_of(OpenAICompatibleEngine(server.url))
    assert text_of(events) == "A longer reply, in pieces."
    assert sum(isinstance(event, Delta) for event in events) > 3
    assert end_of(events).finish_reason == "stop"
    assert (end_of(events).usage.prompt_tokens, end_of(events).usage.reply_tokens) == (12, 3)


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_the_address_may_end_with_v1(vllm: FakeOpenAI, ending: str) -> None:
    assert text_of(await events_of(OpenAICompatibleEngine(vllm.url + ending))) == "Hello there."


async def test_the_request_carries_the_conversation_and_the_options(vllm: FakeOpenAI) -> None:
    options = GenerationOptions(temperature=0.7, top_p=0.8, max_tokens=77)
    await events_of(OpenAICompatibleEngine(vllm.url), request("hi", options=options))
    assert vllm.requests == [
        {
            "model": "gemma2-2b",
            "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.7,
            "top_p": 0.8,
            "max_tokens": 77,
        }
    ]


async def test_a_reply_that_reaches_its_bound_says_so(vllm: FakeOpenAI) -> None:
    vllm.script(Answer(finish="length"))
    assert end_of(await events_of(OpenAICompatibleEngine(vllm.url))).finish_reason == "length"


async def test_a_server_that_does_not_count_is_timed_by_our_clock() -> None:
    async with FakeOpenAI("lm-studio") as server:
        server.script(Answer(counted=False))
        usage = end_of(await events_of(OpenAICompatibleEngine(server.url))).usage
    assert (usage.prompt_tokens, usage.reply_tokens, usage.cached_tokens) == (None, None, None)
    assert usage.prompt_seconds > 0
    assert usage.generation_seconds > 0


async def test_leaving_in_mid_stream_closes_the_connection_at_once(vllm: FakeOpenAI) -> None:
    vllm.script(Answer(then="freeze"))
    stream = OpenAICompatibleEngine(vllm.url).complete(request())
    async for event in stream:
        if isinstance(event, Delta):
            break
    await stream.aclose()
    async with asyncio.timeout(5):
        await vllm.idle.wait()
    assert vllm.cancelled == 1


async def test_cancelling_before_the_first_token_closes_the_connection_at_once(vllm: FakeOpenAI) -> None:
    vllm.script(Answer(hangs=True))
    task = asyncio.create_task(events_of(OpenAICompatibleEngine(vllm.url)))
    while vllm.idle.is_set():
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(5):
        await vllm.idle.wait()
    assert vllm.cancelled == 1


# Reasoning


@pytest.mark.parametrize("flavour", ["vllm", "llama.cpp", "lm-studio"])
async def test_reasoning_in_a_field_of_its_own_is_told_apart(flavour: Flavour) -> None:
    async with FakeOpenAI(flavour) as server:
        server.script(Answer("Yes.", reasoning="Let me see."))
        events = await events_of(OpenAICompatibleEngine(server.url))
    assert (text_of(events, "reasoning"), text_of(events)) == ("Let me see.", "Yes.")


async def test_reasoning_in_the_text_is_told_apart(vllm: FakeOpenAI) -> None:
    vllm.script(Answer("<think>\nLet me see.</think>\n\nYes."))
    events = await events_of(OpenAICompatibleEngine(vllm.url))
    assert (text_of(events, "reasoning"), text_of(events)) == ("Let me see.", "Yes.")


@pytest.mark.parametrize("split_by_server", [False, True])
async def test_a_model_whose_template_opens_the_block_begins_within_it(split_by_server: bool) -> None:
    name = "Qwen/Qwen3-4B-Thinking-2507"
    async with FakeOpenAI("vllm", name) as server:
        told = Answer("Yes.", reasoning="Let me see.") if split_by_server else Answer("Let me see.</think>\n\nYes.")
        server.script(told)
        events = await events_of(OpenAICompatibleEngine(server.url), request(model=name))
    assert (text_of(events, "reasoning"), text_of(events)) == ("Let me see.", "Yes.")


@pytest.mark.parametrize("think", [True, False])
async def test_thinking_is_switched_where_the_template_has_a_switch(llama: FakeOpenAI, think: bool) -> None:
    engine = OpenAICompatibleEngine(llama.url)
    await events_of(engine, request(options=GenerationOptions(think=think)))
    assert llama.requests[0]["chat_template_kwargs"] == {"enable_thinking": think}
    assert [model.can_think for model in await engine.models()] == [True]


@pytest.mark.parametrize(
    ("name", "can_think"),
    [
        ("Qwen/Qwen3-0.6B", True),
        ("HuggingFaceTB/SmolLM3-3B", True),
        ("Qwen/Qwen3-4B-Instruct-2507", False),
        ("Qwen/Qwen3-Coder-30B-A3B", False),
        ("Qwen/Qwen3-4B-Thinking-2507", False),
        ("google/gemma-2-2b-it", False),
    ],
)
async def test_without_a_template_the_name_tells_whether_thinking_can_be_switched(name: str, can_think: bool) -> None:
    async with FakeOpenAI("vllm", name) as server:
        engine = OpenAICompatibleEngine(server.url)
        assert [model.can_think for model in await engine.models()] == [can_think]
        await events_of(engine, request(model=name))
        assert ("chat_template_kwargs" in server.requests[0]) == can_think


# What llama.cpp tells beyond the others


async def test_llama_cpp_tells_true_progress(llama: FakeOpenAI) -> None:
    events = await events_of(OpenAICompatibleEngine(llama.url))
    readings = [event for event in events if isinstance(event, Reading)]
    assert [(reading.processed, reading.total) for reading in readings] == [(0, 12), (8, 12), (12, 12)]
    assert readings[1].seconds_left == pytest.approx(0.008)
    assert (llama.requests[0]["return_progress"], llama.requests[0]["cache_prompt"]) == (True, True)


async def test_llama_cpp_tells_its_times_and_what_was_cached(llama: FakeOpenAI) -> None:
    usage = end_of(await events_of(OpenAICompatibleEngine(llama.url))).usage
    assert usage == Usage(12, 3, usage.load_seconds, 0.016, 0.06, cached_tokens=4)


async def test_llama_cpp_counts_tokens(llama: FakeOpenAI) -> None:
    engine = OpenAICompatibleEngine(llama.url)
    assert await engine.count_tokens("gemma2-2b", "one two three") is None  # nobody knows yet that it is one
    await engine.models()
    assert await engine.count_tokens("gemma2-2b", "one two three") == 3


async def test_others_are_not_asked_to_count(vllm: FakeOpenAI) -> None:
    engine = OpenAICompatibleEngine(vllm.url)
    await engine.models()
    assert await engine.count_tokens("gemma2-2b", "one two three") is None


async def test_a_llama_cpp_that_loads_is_shown_loading_and_asked_again() -> None:
    async with FakeOpenAI("llama.cpp", loading=1) as server:
        events = await events_of(OpenAICompatibleEngine(server.url))
    assert events[0] == Loading()
    assert text_of(events) == "Hello there."
    assert end_of(events).usage.load_seconds > 0


async def test_a_llama_cpp_that_was_started_anew_is_waited_for(llama: FakeOpenAI) -> None:
    engine = OpenAICompatibleEngine(llama.url)
    await events_of(engine)
    llama.loading = 3  # its slots, the request, and the first question how far it is
    events = await events_of(engine)
    assert events[0] == Loading()
    assert text_of(events) == "Hello there."


async def test_while_a_llama_cpp_loads_its_models_stay_listed(llama: FakeOpenAI) -> None:
    engine = OpenAICompatibleEngine(llama.url)
    llama.loading = 1
    with pytest.raises(EngineFailed):
        await engine.models()
    await engine.models()
    llama.loading = 1
    assert [model.loaded for model in await engine.models()] == [False]


async def test_load_returns_when_the_server_has_loaded(llama: FakeOpenAI) -> None:
    llama.loading = 1
    await OpenAICompatibleEngine(llama.url).load("gemma2-2b", 4096)
    assert (llama.loading, llama.requests) == (0, [])


# Who answers there


@pytest.mark.parametrize(
    ("flavour", "label", "slots", "context", "loaded"),
    [
        ("vllm", "vLLM", 64, 4096, True),
        ("llama.cpp", "llama.cpp", 2, 4096, True),
        ("lm-studio", "LM Studio", 1, None, None),
        ("ollama", "Ollama", 1, None, None),
        ("transformers", "transformers serve", 1, None, None),
    ],
)
async def test_the_server_is_known_by_its_answers(
    flavour: Flavour, label: str, slots: int, context: int | None, loaded: bool | None
) -> None:
    async with FakeOpenAI(flavour) as server:
        engine = OpenAICompatibleEngine(server.url)
        assert engine.label == "vLLM"  # as the setting is called
        (model,) = await engine.models()
    assert (engine.label, engine.slots) == (label, slots)
    assert (model.id, model.context_length, model.context_fixed) == ("vllm/gemma2-2b", context, context is not None)
    assert model.loaded == loaded


async def test_another_server_at_the_same_address_is_noticed(llama: FakeOpenAI) -> None:
    engine = OpenAICompatibleEngine(llama.url)
    await engine.models()
    llama.flavour, llama.models = "vllm", ("other",)
    assert [model.name for model in await engine.models()] == ["other"]
    assert engine.label == "vLLM"


@pytest.mark.parametrize(
    ("flavour", "name", "can"),
    [
        ("lm-studio", "gemma", (True, None)),
        ("lm-studio", "text-embedding-nomic", (False, True)),
        ("vllm", "BAAI/bge-m3", (False, True)),
        ("vllm", "BAAI/bge-reranker-v2-m3", (False, True)),
        ("vllm", "Qwen/Qwen3-Embedding-0.6B", (False, True)),
        ("vllm", "Qwen/Qwen3-8B", (True, None)),
        ("transformers", "Qwen/Qwen3-8B", (True, False)),
    ],
)
async def test_a_models_name_tells_whether_it_chats_or_embeds(
    flavour: Flavour, name: str, can: tuple[bool, bool | None]
) -> None:
    async with FakeOpenAI(flavour, name) as server:
        (model,) = await OpenAICompatibleEngine(server.url).models()
    assert (model.can_chat, model.can_embed) == can


async def test_progress_is_estimated_once_the_models_speed_is_known(vllm: FakeOpenAI) -> None:
    speeds = SpeedBook()
    engine = OpenAICompatibleEngine(vllm.url, speeds=speeds)
    assert (await events_of(engine, request(expected=600)))[0] == Reading()
    speeds.observe("vllm/gemma2-2b", Usage(400, 20, 0.0, 2.0, 1.0, cached_tokens=0))
    assert (await events_of(engine, request(expected=600)))[0] == Reading(seconds_left=3.0)


# The key


async def test_the_key_is_sent_as_a_bearer_token() -> None:
    async with FakeOpenAI("vllm", key="s3cret-key") as server:
        events = await events_of(OpenAICompatibleEngine(server.url, api_key=SecretStr("s3cret-key")))
    assert text_of(events) == "Hello there."


@pytest.mark.parametrize("key", [None, SecretStr("wr0ng-key")])
async def test_a_server_that_wants_another_key_names_the_setting(
    key: SecretStr | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeOpenAI("vllm", key="s3cret-key") as server:
        with pytest.raises(EngineRefused) as refused:
            await OpenAICompatibleEngine(server.url, api_key=key).models()
    assert "VLLM_API_KEY" in refused.value.sentence("en")
    assert "wr0ng-key" not in str(refused.value.facts) + caplog.text


async def test_a_server_that_says_the_key_does_not_make_us_say_it(vllm: FakeOpenAI) -> None:
    vllm.script(Answer(status=500, body={"error": {"message": "bad header: Bearer s3cret-key"}}))
    with pytest.raises(EngineFailed) as failed:
        await events_of(OpenAICompatibleEngine(vllm.url, api_key=SecretStr("s3cret-key")))
    assert failed.value.facts["detail"] == "bad header: Bearer ***"


async def test_nobody_at_the_address_is_unreachable() -> None:
    engine = OpenAICompatibleEngine("http://127.0.0.1:9/v1")
    for asked in (events_of(engine), engine.models(), engine.load("m", 4096)):
        with pytest.raises(EngineUnreachable) as failed:
            await asked
        assert "http://127.0.0.1:9" in failed.value.sentence("en")
