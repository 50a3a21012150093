"""The engine with a real llama.cpp server that runs the guide."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from app.engines.base import ChatMessage, CompletionRequest, Delta, Done, EngineEvent, GenerationOptions, Reading
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.errors import EngineRefused, EngineUnreachable, PromptTooLong, StreamCut
from tests.servers import guide, guide_as_gguf, llama_server
from tests.site import Program

KEY = SecretStr("a-key-for-this-test")
CONTEXT = 1024
LONG = "how do i start a real model with ollama on this server, and where are its settings kept, " * 20


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return guide_as_gguf(tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="module")
def server(gguf: Path) -> Iterator[Program]:
    """One slot, read in batches small enough that progress shows."""
    with llama_server(gguf, gguf.parent, "-c", str(CONTEXT), "-np", "1", "-b", "64", "-ub", "64") as program:
        yield program


@pytest.fixture
async def engine(server: Program) -> AsyncIterator[OpenAICompatibleEngine]:
    engine = OpenAICompatibleEngine(server.url)
    yield engine
    await engine.close()


@pytest.fixture
def endless(gguf: Path) -> Iterator[Program]:
    """A server that wants a key and whose replies end at their bound only."""
    options = ("-c", "4096", "-np", "1", "-b", "64", "-ub", "64", "--ignore-eos", "--api-key", KEY.get_secret_value())
    with llama_server(gguf, gguf.parent, *options) as program:
        yield program


def request(*texts: str, max_tokens: int = 64) -> CompletionRequest:
    """A conversation, the user's message first and last, answered greedily."""
    roles = ["user", "assistant"] * len(texts)
    messages = tuple(ChatMessage(role, text) for role, text in zip(roles, texts, strict=False))  # type: ignore[arg-type]
    return CompletionRequest("guide", messages, GenerationOptions(temperature=0, max_tokens=max_tokens), CONTEXT)


async def events_of(engine: OpenAICompatibleEngine, asked: CompletionRequest) -> list[EngineEvent]:
    return [event async for event in engine.complete(asked)]


def text_of(events: Sequence[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def end_of(events: Sequence[EngineEvent]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


async def tokens_of(server: Program, asked: CompletionRequest) -> int:
    """The size of a whole prompt, by the server's own template and tokenizer."""
    messages = [{"role": message.role, "content": message.content} for message in asked.messages]
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        prompt = (await client.post("/apply-template", json={"messages": messages})).json()["prompt"]
        return len((await client.post("/tokenize", json={"content": prompt})).json()["tokens"])


async def wait_until_idle(server: Program) -> None:
    """Until the server's one slot works on nothing."""
    headers = {"authorization": f"Bearer {KEY.get_secret_value()}"}
    async with asyncio.timeout(20), httpx.AsyncClient(base_url=server.url, trust_env=False, headers=headers) as client:
        while (await client.get("/slots")).json()[0]["is_processing"]:
            await asyncio.sleep(0.01)


async def test_it_is_known_as_llama_cpp_with_its_context_and_slots(engine: OpenAICompatibleEngine) -> None:
    (model,) = await engine.models()
    assert (engine.label, engine.slots) == ("llama.cpp", 1)
    assert (model.id, model.context_length, model.context_fixed) == ("vllm/guide", CONTEXT, True)
    assert (model.quantization, model.can_think, model.loaded) == ("F16", False, True)
    assert model.size is not None


async def test_a_reply_streams_with_its_counts_and_times(server: Program, engine: OpenAICompatibleEngine) -> None:
    asked = request("How do I start it?")
    events = await events_of(engine, asked)
    done = end_of(events)
    assert text_of(events)
    assert sum(isinstance(event, Delta) for event in events) > 1
    assert done.usage.prompt_tokens == await tokens_of(server, asked)
    assert done.usage.reply_tokens
    assert done.usage.prompt_seconds > 0
    assert done.usage.generation_seconds > 0


async def test_a_reply_that_reaches_its_bound_says_so(engine: OpenAICompatibleEngine) -> None:
    done = end_of(await events_of(engine, request("How do I start it?", max_tokens=2)))
    assert (done.finish_reason, done.usage.reply_tokens) == ("length", 2)


async def test_a_long_prompt_shows_its_true_progress(engine: OpenAICompatibleEngine) -> None:
    events = await events_of(engine, request(LONG, max_tokens=1))
    readings = [event for event in events if isinstance(event, Reading)]
    processed = [reading.processed or 0 for reading in readings]
    assert len(readings) > 3
    assert processed == sorted(processed)
    assert {reading.total for reading in readings} == {end_of(events).usage.prompt_tokens}
    assert any(reading.seconds_left for reading in readings)


async def test_the_second_turn_finds_the_first_in_the_cache(server: Program, engine: OpenAICompatibleEngine) -> None:
    first = await events_of(engine, request("What is this?"))
    asked = request("What is this?", text_of(first), "And where are the settings?")
    usage = end_of(await events_of(engine, asked)).usage
    assert usage.prompt_tokens == await tokens_of(server, asked)
    assert usage.cached_tokens is not None
    assert usage.cached_tokens >= (end_of(first).usage.prompt_tokens or 0)


async def test_a_prompt_too_long_is_refused_with_its_exact_size(
    server: Program, engine: OpenAICompatibleEngine
) -> None:
    asked = request(LONG * 5)
    with pytest.raises(PromptTooLong) as refused:
        await events_of(engine, asked)
    assert (refused.value.tokens, refused.value.limit) == (await tokens_of(server, asked), CONTEXT)


async def test_tokens_are_counted_by_the_models_own_tokenizer(engine: OpenAICompatibleEngine) -> None:
    await engine.models()
    one, two = [await engine.count_tokens("guide", text) for text in ("settings", "settings settings")]
    assert one
    assert two
    assert one < two


async def test_one_model_answers_to_any_name(engine: OpenAICompatibleEngine) -> None:
    asked = request("Hello")
    other = replace(asked, model="no-such-model")
    assert text_of(await events_of(engine, other)) == text_of(await events_of(engine, asked))


async def test_thinking_is_switched_in_the_models_template(gguf: Path) -> None:
    """With the switch that Qwen3's template has: thinking turned off is an empty block in the prompt."""
    switch = "{%- if enable_thinking is defined and enable_thinking is false -%}<think>\n\n</think>\n\n{%- endif -%}"
    template = (guide() / "chat_template.jinja").read_text(encoding="utf-8") + switch
    with llama_server(gguf, gguf.parent, "-c", "1024", "-np", "1", "--jinja", "--chat-template", template) as program:
        engine = OpenAICompatibleEngine(program.url)
        assert [model.can_think for model in await engine.models()] == [True]
        sizes = {}
        for think in (True, False):
            asked = request("Hello", max_tokens=1)
            asked = replace(asked, options=replace(asked.options, think=think))
            sizes[think] = end_of(await events_of(engine, asked)).usage.prompt_tokens or 0
        await engine.close()
    assert sizes[False] > sizes[True] > 0


async def test_leaving_in_mid_stream_frees_the_slot(endless: Program) -> None:
    engine = OpenAICompatibleEngine(endless.url, api_key=KEY)
    stream = engine.complete(request("Hello", max_tokens=4000))
    seen = 0
    async for event in stream:
        seen += isinstance(event, Delta)
        if seen == 3:
            break
    await stream.aclose()
    await wait_until_idle(endless)
    assert "cancel task" in endless.text()
    await engine.close()


async def test_leaving_while_the_prompt_is_read_frees_the_slot(endless: Program) -> None:
    engine = OpenAICompatibleEngine(endless.url, api_key=KEY)
    stream = engine.complete(request(LONG * 5, max_tokens=4000))
    async for event in stream:
        assert isinstance(event, Reading)
        if event.processed:
            break
    await stream.aclose()
    await wait_until_idle(endless)
    assert "cancel task" in endless.text()
    await engine.close()


async def test_another_key_is_refused_and_named_as_the_setting(endless: Program) -> None:
    engine = OpenAICompatibleEngine(endless.url)
    with pytest.raises(EngineRefused, match="VLLM_API_KEY"):
        await engine.models()
    await engine.close()


async def test_a_server_killed_in_mid_stream_leaves_a_reply_that_was_cut(endless: Program) -> None:
    engine = OpenAICompatibleEngine(endless.url, api_key=KEY)
    events: list[EngineEvent] = []
    with pytest.raises(StreamCut):  # noqa: PT012 - the server is killed within the reply
        async for event in engine.complete(request("Hello", max_tokens=4000)):
            if isinstance(event, Delta) and not text_of(events):
                os.kill(endless.process.pid, signal.SIGKILL)
            events.append(event)
    assert text_of(events)
    endless.process.wait()
    with pytest.raises(EngineUnreachable):
        await events_of(engine, request("Hello"))
    await engine.close()
