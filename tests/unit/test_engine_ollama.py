"""The Ollama engine against the fake: what it sends, what it tells on the way, how it is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest

from app.engines.base import (
    ChatMessage,
    CompletionRequest,
    Delta,
    GenerationOptions,
    Loading,
    Progress,
    Reading,
    Usage,
)
from app.engines.ollama import OllamaEngine
from app.engines.speeds import SpeedBook
from tests.fakes.models import model_named
from tests.fakes.ollama import FakeModel, FakeOllama, count_tokens
from tests.unit.completions import end_of, events_of, text_of
from tests.unit.conftest import Connect

FAST = 200
# What makes Ollama load a model again when it changes.
LOADS_AGAIN = ("num_ctx", "num_batch", "num_thread")


def request(
    *texts: str, model: str = "gemma2:2b", num_ctx: int = 4096, expected: int = 0, **options: object
) -> CompletionRequest:
    """A conversation of `texts`, the visitor's first."""
    messages = tuple(ChatMessage("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))
    generation = GenerationOptions(**options)  # type: ignore[arg-type]
    return CompletionRequest(model, messages, generation, num_ctx, "c", expected)


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(speedup=FAST) as fake:
        yield fake


@pytest.fixture
def engine(ollama: FakeOllama, connect: Connect) -> OllamaEngine:
    return connect(ollama.url)


# What it sends


async def test_a_model_is_loaded_once_for_its_load_and_all_chats_after_it(ollama: FakeOllama, connect: Connect) -> None:
    engine = connect(ollama.url, num_batch=32, num_thread=2, keep_alive="10m")
    await engine.load("gemma2:2b", 2048)
    for temperature in (0.0, 0.7):
        await events_of(engine, request("hello", num_ctx=2048, temperature=temperature, max_tokens=20))
    assert ollama.loads == 1
    assert len(ollama.requests) == 3
    for sent in ollama.requests:
        assert (sent["truncate"], sent["shift"], sent["keep_alive"]) == (False, False, "10m")
        assert [sent["options"][key] for key in LOADS_AGAIN] == [2048, 32, 2]


async def test_a_chat_that_finds_its_model_cold_loads_it_once_with_the_options_of_the_chat(
    ollama: FakeOllama, connect: Connect
) -> None:
    await events_of(connect(ollama.url), request("hello"))
    assert ollama.loads == 1
    assert [bool(sent["messages"]) for sent in ollama.requests] == [False, True]


async def test_without_a_number_of_threads_none_is_sent(ollama: FakeOllama, engine: OllamaEngine) -> None:
    await engine.load("gemma2:2b", 4096)
    assert ollama.requests[0]["options"] == {"num_ctx": 4096, "num_batch": 64}
    assert ollama.requests[0]["keep_alive"] == -1


async def test_how_to_sample_is_sent_and_the_reply_always_bounded(ollama: FakeOllama, engine: OllamaEngine) -> None:
    events = await events_of(engine, request("!words 40", temperature=0.3, top_p=0.8, max_tokens=16))
    options = ollama.requests[-1]["options"]
    assert (options["temperature"], options["top_p"], options["num_predict"]) == (0.3, 0.8, 16)
    assert (end_of(events).finish_reason, end_of(events).usage.reply_tokens) == ("length", 16)


async def test_a_model_that_is_not_kept_in_memory_is_not_loaded_ahead(ollama: FakeOllama, connect: Connect) -> None:
    engine = connect(ollama.url, keep_alive="0")
    await engine.load("gemma2:2b", 4096)
    assert ollama.requests == []
    for _ in range(2):
        assert text_of(await events_of(engine, request("!echo here"))) == "here"
    assert [sent["keep_alive"] for sent in ollama.requests] == [0, 0]


async def test_the_environments_proxy_is_not_used(
    ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert await connect(ollama.url).version()


# What it tells


async def test_a_cold_model_is_shown_loading_then_reading(engine: OllamaEngine) -> None:
    events = await events_of(engine, request("hello", expected=550))
    assert events[:2] == [Loading(7.5), Reading(seconds_left=10.0)]
    assert isinstance(events[2], Delta)
    assert end_of(events).usage.load_seconds > 0


async def test_a_model_in_memory_is_shown_reading_at_once(engine: OllamaEngine) -> None:
    await engine.load("gemma2:2b", 4096)
    assert isinstance((await events_of(engine, request("hello")))[0], Reading)


async def test_a_model_that_somebody_else_loaded_is_not_loaded_again(ollama: FakeOllama, connect: Connect) -> None:
    await connect(ollama.url).load("gemma2:2b", 4096)
    events = await events_of(connect(ollama.url), request("hello"))
    assert isinstance(events[0], Reading)
    assert ollama.loads == 1


async def test_a_model_in_memory_with_another_context_is_shown_loading(
    ollama: FakeOllama, engine: OllamaEngine
) -> None:
    await engine.load("gemma2:2b", 2048)
    assert isinstance((await events_of(engine, request("hello", num_ctx=4096)))[0], Loading)
    assert ollama.loads == 2


async def test_a_chat_during_the_first_load_is_shown_loading_too(ollama: FakeOllama, engine: OllamaEngine) -> None:
    load = asyncio.create_task(engine.load("gemma2:2b", 4096))
    while not ollama.busy:
        await asyncio.sleep(0)
    events = await events_of(engine, request("hello"))
    await load
    assert isinstance(events[0], Loading)
    assert ollama.loads == 1


@pytest.mark.parametrize("fault", ["500", "hang"])
async def test_a_list_of_loaded_models_that_cannot_be_had_keeps_nobody_waiting(
    fault: str, ollama: FakeOllama, connect: Connect
) -> None:
    ollama.faults["/api/ps"] = fault  # type: ignore[assignment]
    engine = connect(ollama.url, models_timeout=0.5)
    events = await events_of(engine, request("hello"))
    assert isinstance(events[0], Reading)
    assert text_of(events) == "You said: hello"
    assert [model.loaded for model in await engine.models()] == [None]


async def test_the_times_left_come_from_the_speeds_seen(ollama: FakeOllama, connect: Connect) -> None:
    speeds = SpeedBook()
    speeds.observe("ollama/gemma2:2b", Usage(1000, 100, 4.0, 10.0, 10.0))
    events = await events_of(connect(ollama.url, speeds=speeds), request("hello", expected=250))
    assert events[:2] == [Loading(4.0), Reading(seconds_left=2.5)]


async def test_only_what_the_cache_does_not_hold_counts_as_left_to_read(engine: OllamaEngine) -> None:
    first = "word " * 100
    answer = text_of(await events_of(engine, request(first, expected=110)))
    events = await events_of(engine, request(first, answer, "and now?", expected=330))
    reading = events[0]
    assert isinstance(reading, Reading)
    assert reading.seconds_left is not None
    assert reading.seconds_left < 330 / 55 * 0.02


async def test_a_prompt_of_unknown_size_has_no_time_left(engine: OllamaEngine) -> None:
    assert Reading() in await events_of(engine, request("hello"))


async def test_the_counts_and_times_are_ollamas(engine: OllamaEngine) -> None:
    await engine.load("gemma2:2b", 4096)
    done = end_of(await events_of(engine, request("!words 40")))
    prompt = count_tokens([{"role": "user", "content": "!words 40"}])
    assert (done.finish_reason, done.usage.prompt_tokens, done.usage.reply_tokens) == ("stop", prompt, 40)
    assert done.usage.prompt_seconds == pytest.approx(prompt / 55, rel=0.01)
    assert done.usage.generation_seconds == pytest.approx(40 / 17.8, rel=0.01)


async def test_a_reply_that_ends_without_an_end_has_repeated_itself_and_is_timed_by_our_clock(
    ollama: FakeOllama, connect: Connect
) -> None:
    ticks = iter(range(1000))
    engine = connect(ollama.url, clock=lambda: float(next(ticks)))
    events = await events_of(engine, request("!repeat"))
    done = end_of(events)
    assert done.finish_reason == "repetition"
    assert done.usage.prompt_tokens is None
    assert done.usage.reply_tokens == sum(isinstance(event, Delta) for event in events) == 36
    assert min(done.usage.load_seconds, done.usage.prompt_seconds, done.usage.generation_seconds) >= 1


async def test_the_next_turn_reads_only_what_is_new(ollama: FakeOllama, engine: OllamaEngine) -> None:
    first = "word " * 300
    answer = text_of(await events_of(engine, request(first)))
    read = ollama.tokens_read
    await events_of(engine, request(first, answer, "and now"))
    assert ollama.tokens_read - read < read / 10


# Reasoning


async def test_thinking_is_asked_of_a_model_that_can_and_told_apart_from_its_answer(connect: Connect) -> None:
    async with FakeOllama(FakeModel("qwen3:0.6b", capabilities=("completion", "thinking")), speedup=FAST) as ollama:
        engine = connect(ollama.url)
        events = await events_of(engine, request("!think 5", model="qwen3:0.6b", think=True))
        assert text_of(events, "reasoning") == "the quick brown fox jumps"
        assert text_of(events) == "The answer is forty-two."
        assert text_of(await events_of(engine, request("hi", model="qwen3:0.6b"))) == "You said: hi"
        assert [sent["think"] for sent in ollama.requests if sent["messages"]] == [True, False]


async def test_a_model_that_cannot_think_is_never_told_to(ollama: FakeOllama, engine: OllamaEngine) -> None:
    for think in (False, True):
        assert text_of(await events_of(engine, request("hi", think=think))) == "You said: hi"
    assert all("think" not in sent for sent in ollama.requests)


async def test_reasoning_between_tags_in_the_text_is_told_apart(engine: OllamaEngine) -> None:
    events = await events_of(engine, request("!echo <think>two and two</think>is four"))
    assert text_of(events, "reasoning") == "two and two"
    assert text_of(events) == "is four"


async def test_text_that_only_began_like_a_tag_is_not_lost(engine: OllamaEngine) -> None:
    assert text_of(await events_of(engine, request("!echo <thi"))) == "<thi"


# Models


async def test_what_a_model_can_do_is_what_ollama_tells(connect: Connect) -> None:
    async with FakeOllama(*map(model_named, ("gemma2:2b", "qwen3:4b", "bge-m3")), speedup=FAST) as ollama:
        models = await connect(ollama.url).models()
    assert [(m.name, m.can_chat, m.can_think, m.can_embed, m.can_use_tools) for m in models] == [
        ("gemma2:2b", True, False, False, False),
        ("qwen3:4b", True, True, False, True),
        ("bge-m3:latest", False, False, True, False),
    ]


async def test_what_an_old_server_does_not_tell_may_be_tried(connect: Connect) -> None:
    def listed(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"models": [{"name": "gemma2:2b"}]})

    client = httpx.AsyncClient(transport=httpx.MockTransport(listed))
    (model,) = await connect("http://old", client=client).models()
    assert (model.can_chat, model.can_embed, model.can_use_tools) == (True, None, None)


async def test_a_name_without_a_tag_is_the_latest(ollama: FakeOllama, connect: Connect) -> None:
    ollama.set_models(["guide"])
    engine = connect(ollama.url)
    await engine.load("guide", 4096)
    await events_of(connect(ollama.url), request("hello", model="guide"))
    assert [model.loaded for model in await engine.models()] == [True]
    assert [bool(sent["messages"]) for sent in ollama.requests] == [False, True]


async def test_tokens_cannot_be_counted_ahead(engine: OllamaEngine) -> None:
    assert await engine.count_tokens("gemma2:2b", "hello") is None


async def test_a_pull_tells_how_far_all_layers_are_together(ollama: FakeOllama, engine: OllamaEngine) -> None:
    seen = [progress async for progress in engine.pull("phi3")]
    assert seen[:3] == [Progress(0, None), Progress(0, 1_600_000_000), Progress(160_000_000, 1_600_000_000)]
    assert seen[-1] == Progress(1_629_000_000, 1_629_000_000)
    assert sorted(seen, key=lambda progress: progress.completed) == seen
    assert "phi3" in ollama.models


# Leaving


async def test_leaving_in_mid_stream_frees_the_model_at_once(connect: Connect) -> None:
    async with FakeOllama(speedup=1, load_seconds=0) as ollama:
        async with aclosing(connect(ollama.url).complete(request("!words 500"))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        await ollama.idle.wait()
        assert ollama.cancelled == 1


async def test_leaving_while_the_prompt_is_read_ends_that_with_its_batch(connect: Connect) -> None:
    async with FakeOllama(speedup=20, load_seconds=0) as ollama:
        engine = connect(ollama.url)
        await engine.load("gemma2:2b", 4096)
        task = asyncio.create_task(events_of(engine, request("word " * 2000)))
        while not ollama.tokens_read:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ollama.idle.wait()
        assert ollama.cancelled == 1
        assert ollama.tokens_read < 1000


async def test_leaving_while_the_model_loads_ends_the_request(connect: Connect) -> None:
    async with FakeOllama(speedup=1, load_seconds=60) as ollama:
        task = asyncio.create_task(events_of(connect(ollama.url), request("hello")))
        while not ollama.busy:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await ollama.idle.wait()
        assert (ollama.cancelled, ollama.loads) == (1, 0)


async def test_leaving_a_pull_ends_it(ollama: FakeOllama, engine: OllamaEngine) -> None:
    async with aclosing(engine.pull("phi3")) as steps:
        async for progress in steps:
            if progress.completed:
                break
    assert "phi3" not in ollama.models
    assert await engine.version()


async def test_two_visitors_at_once_get_their_own_replies(ollama: FakeOllama, engine: OllamaEngine) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(events_of(engine, request(f"!echo number {n}"))) for n in range(4)]
    assert [text_of(task.result()) for task in tasks] == [f"number {n}" for n in range(4)]
    assert ollama.loads == 1
