"""The Ollama engine, against recordings of the real one and against the fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.engines.base import (
    ChatMessage,
    CompletionRequest,
    Delta,
    Done,
    EngineEvent,
    GenerationOptions,
    Loading,
    Progress,
    Reading,
)
from app.engines.ollama import OllamaEngine
from app.errors import (
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineSilent,
    EngineUnreachable,
    ModelMissing,
    ModelProcessDied,
    OutOfMemory,
    PromptTooLong,
    StreamCut,
)
from tests.fakes.ollama import FakeModel, FakeOllama
from tests.replay import recording, replay

FAST = 200


def request(
    text: str = "hello", *, model: str = "gemma2:2b", num_ctx: int = 4096, expected: int = 0, **options: object
) -> CompletionRequest:
    generation = GenerationOptions(**options)  # type: ignore[arg-type]
    return CompletionRequest(model, (ChatMessage("user", text),), generation, num_ctx, "c", expected)


async def events_of(engine: OllamaEngine, asked: CompletionRequest) -> list[EngineEvent]:
    return [event async for event in engine.complete(asked)]


def text_of(events: list[EngineEvent], kind: str = "answer") -> str:
    return "".join(event.text for event in events if isinstance(event, Delta) and event.kind == kind)


def end_of(events: list[EngineEvent]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(speedup=FAST) as fake:
        yield fake


# Recordings, byte by byte


async def test_the_recorded_beginning_of_a_stream_is_read_piece_by_piece() -> None:
    async with replay("chat_stream") as server:
        events = await events_of(OllamaEngine(server.url), request())
    recorded = [event["line"] for event in recording("chat_stream")["response"]["events"] if "line" in event]
    assert sum(isinstance(event, Delta) for event in events) == len(recorded)


@pytest.mark.parametrize("scenario", ["chat_stop", "runner_frozen_6s", "unload_while_streaming"])
async def test_a_recorded_reply_is_read_with_its_counts(scenario: str) -> None:
    async with replay(scenario) as server:
        events = await events_of(OllamaEngine(server.url), request())
    done = end_of(events)
    assert text_of(events)
    assert done.usage.prompt_tokens
    assert done.usage.reply_tokens
    assert done.usage.generation_seconds > 0


async def test_a_recorded_stream_without_an_end_is_a_reply_that_repeated_itself() -> None:
    async with replay("repetition_guard") as server:
        events = await events_of(OllamaEngine(server.url), request())
    done = end_of(events)
    assert done.finish_reason == "repetition"
    assert done.usage.prompt_tokens is None
    assert done.usage.reply_tokens == sum(isinstance(event, Delta) for event in events)


@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("error_model_missing", ModelMissing),
        ("error_no_model", EngineRefused),
        ("error_bad_json", EngineError),
        ("error_option_type", EngineFailed),
        ("error_think_unsupported", EngineRefused),
        ("error_tools_unsupported", EngineRefused),
        ("error_not_found_path", EngineError),
        ("runner_killed_mid_stream", ModelProcessDied),
        ("runner_killed_in_prefill", ModelProcessDied),
        ("runner_killed_while_loading", ModelProcessDied),
        ("truncate_false_over", PromptTooLong),
    ],
)
async def test_a_recorded_failure_is_a_typed_error_that_says_what_to_do(
    scenario: str, error: type[EngineError], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tests.replay

    recorded = recording(scenario)
    recorded["request"]["path"] = "/api/chat"  # whatever was asked then: this is what came back
    monkeypatch.setattr(tests.replay, "recording", lambda name: recorded if name == scenario else recording(name))
    async with replay(scenario) as server:
        with pytest.raises(error) as failed:
            await events_of(OllamaEngine(server.url), request())
    assert failed.value.sentence("en")
    assert "{" not in failed.value.sentence("ru").replace('{"', "")


async def test_a_recorded_refusal_names_the_exact_sizes() -> None:
    async with replay("truncate_false_over") as server:
        with pytest.raises(PromptTooLong) as refused:
            await events_of(OllamaEngine(server.url), request())
    assert (refused.value.tokens, refused.value.limit) == (1211, 1024)


async def test_the_recorded_list_of_models_is_read_whole() -> None:
    async with replay("tags") as server:
        models = await OllamaEngine(server.url).models()
    gemma = models[0]
    assert (gemma.id, gemma.size, gemma.parameters, gemma.quantization) == (
        "ollama/gemma2:2b",
        1_629_276_160,
        "2.6B",
        "Q4_0",
    )
    assert (gemma.context_length, gemma.can_think, gemma.loaded) == (8192, False, True)


async def test_a_recorded_load_answers_when_the_model_is_in_memory() -> None:
    async with replay("load") as server:
        await OllamaEngine(server.url).load("gemma2:2b", 4096)
        assert server.requests[0]["messages"] == []


@pytest.mark.parametrize("scenario", ["pull_no_network", "pull_bad_name"])
async def test_a_recorded_pull_that_fails_is_an_error_in_ollamas_words(scenario: str) -> None:
    async with replay(scenario) as server:
        with pytest.raises(EngineError) as failed:
            async for _ in OllamaEngine(server.url).pull("gemma2:9b"):
                pass
    assert "pull model manifest" in str(failed.value) or "invalid model name" in str(failed.value)


# Behaviour, against the fake


async def test_every_request_carries_the_same_options_so_the_model_is_loaded_once(ollama: FakeOllama) -> None:
    engine = OllamaEngine(ollama.url, num_thread=2)
    await engine.load("gemma2:2b", 2048)
    for temperature in (0.0, 0.7):
        await events_of(engine, request(num_ctx=2048, temperature=temperature, max_tokens=20))
    assert ollama.loads == 1
    for sent in ollama.requests:
        assert (sent["truncate"], sent["shift"], sent["keep_alive"]) == (False, False, -1)
        fixed = {key: sent["options"][key] for key in ("num_ctx", "num_batch", "num_thread")}
        assert fixed == {"num_ctx": 2048, "num_batch": 64, "num_thread": 2}
    assert ollama.requests[1]["options"]["num_predict"] == 20
    assert all("think" not in sent for sent in ollama.requests)


async def test_a_cold_model_is_shown_loading_then_reading(ollama: FakeOllama) -> None:
    events = await events_of(OllamaEngine(ollama.url), request(expected=550))
    loading, reading = events[0], events[1]
    assert isinstance(loading, Loading)
    assert isinstance(reading, Reading)
    assert reading.seconds_left == pytest.approx(10)
    assert end_of(events).usage.load_seconds > 0


async def test_the_counts_and_times_are_ollamas(ollama: FakeOllama) -> None:
    engine = OllamaEngine(ollama.url)
    await engine.load("gemma2:2b", 4096)
    done = end_of(await events_of(engine, request("!words 40")))
    assert done.finish_reason == "stop"
    assert done.usage.reply_tokens == 40
    assert 40 / done.usage.generation_seconds == pytest.approx(17.8, rel=0.01)


async def test_a_reply_that_reaches_its_bound_says_so(ollama: FakeOllama) -> None:
    events = await events_of(OllamaEngine(ollama.url), request("!words 40", max_tokens=16))
    assert end_of(events).finish_reason == "length"
    assert end_of(events).usage.reply_tokens == 16


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("!die", ModelProcessDied),
        ("!die-prefill", ModelProcessDied),
        ("!die-loading", ModelProcessDied),
        ("!500", EngineFailed),
        ("!error strange words", EngineFailed),
        ("!cut", StreamCut),
        ("!oom", OutOfMemory),
    ],
)
async def test_every_way_to_fail_is_a_typed_error(ollama: FakeOllama, message: str, error: type[EngineError]) -> None:
    engine = OllamaEngine(ollama.url)
    events: list[EngineEvent] = []
    if message in ("!die-loading", "!oom"):
        # Our own load comes first and works; the fault is met when the model was thrown out in between.
        engine._answered_at["gemma2:2b", 4096] = asyncio.get_running_loop().time() + 1e9
    with pytest.raises(error):  # noqa: PT012 - what came before the failure is looked at below
        async for event in engine.complete(request(message)):
            events.append(event)
    if message in ("!die", "!cut", "!error strange words"):
        assert text_of(events) == "the quick brown fox jumps over a"


async def test_a_model_process_that_died_is_started_anew_by_the_next_request(ollama: FakeOllama) -> None:
    engine = OllamaEngine(ollama.url)
    with pytest.raises(ModelProcessDied):
        await events_of(engine, request("!die"))
    assert text_of(await events_of(engine, request("!echo back again"))) == "back again"
    assert ollama.loads == 2


@pytest.mark.parametrize("message", ["!hang", "!freeze"])
async def test_silence_past_the_limit_is_given_up(ollama: FakeOllama, message: str) -> None:
    engine = OllamaEngine(ollama.url, timeout=0.1, load_timeout=0.3)
    with pytest.raises(EngineSilent):
        await events_of(engine, request(message))


async def test_nobody_at_the_address_is_unreachable() -> None:
    engine = OllamaEngine("http://127.0.0.1:9")
    with pytest.raises(EngineUnreachable):
        await events_of(engine, request())
    with pytest.raises(EngineUnreachable):
        await engine.models()


async def test_another_program_at_the_address_is_told_apart() -> None:
    async with replay("root") as server:
        with pytest.raises(EngineError):
            await OllamaEngine(server.url + "/#").models()


async def test_a_model_that_vanished_is_named_with_the_way_to_get_it(ollama: FakeOllama) -> None:
    with pytest.raises(ModelMissing) as missing:
        await events_of(OllamaEngine(ollama.url), request(model="gone:1b"))
    assert "ollama pull gone:1b" in missing.value.sentence("en")


async def test_leaving_in_mid_stream_frees_the_model_at_once() -> None:
    async with FakeOllama(speedup=1) as ollama:
        ollama.load_seconds = 0
        engine = OllamaEngine(ollama.url)
        stream = engine.complete(request("!words 500"))
        async for event in stream:
            if isinstance(event, Delta):
                break
        await stream.aclose()
        async with asyncio.timeout(1):
            await ollama.idle.wait()
        assert ollama.cancelled == 1


async def test_leaving_while_the_prompt_is_read_ends_it_at_the_end_of_its_batch() -> None:
    async with FakeOllama(speedup=10) as ollama:
        ollama.load_seconds = 0
        engine = OllamaEngine(ollama.url)
        await engine.load("gemma2:2b", 4096)
        task = asyncio.create_task(events_of(engine, request("word " * 2000)))
        while ollama.tokens_read == 0:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(5):
            await ollama.idle.wait()
        assert ollama.tokens_read <= 4 * 64


async def test_thinking_is_asked_of_a_model_that_can_and_told_apart_from_its_answer() -> None:
    async with FakeOllama(FakeModel("qwen3:0.6b", capabilities=("completion", "thinking")), speedup=FAST) as ollama:
        engine = OllamaEngine(ollama.url)
        await engine.models()
        events = await events_of(engine, request("!think 5", model="qwen3:0.6b", think=True))
        assert text_of(events, "reasoning") == "the quick brown fox jumps"
        assert text_of(events) == "The answer is forty-two."
        await events_of(engine, request("hi", model="qwen3:0.6b"))
        assert [sent.get("think") for sent in ollama.requests if sent["messages"]] == [True, False]


async def test_embedding_models_are_not_offered_for_chat() -> None:
    embedder = FakeModel("bge-m3", capabilities=("embedding",))
    async with FakeOllama(FakeModel("gemma2:2b"), embedder, speedup=FAST) as ollama:
        assert [model.name for model in await OllamaEngine(ollama.url).models()] == ["gemma2:2b"]


async def test_a_pull_tells_how_far_all_layers_are(ollama: FakeOllama) -> None:
    seen = [progress async for progress in OllamaEngine(ollama.url).pull("phi3")]
    assert seen[0] == Progress(0, 1_600_000_000)
    assert seen[-1] == Progress(1_629_000_000, 1_629_000_000)
    assert "phi3" in ollama.models


async def test_the_next_turn_reads_only_what_is_new(ollama: FakeOllama) -> None:
    engine = OllamaEngine(ollama.url)
    first = ChatMessage("user", "word " * 300)
    await events_of(engine, CompletionRequest("gemma2:2b", (first,), GenerationOptions(), 4096))
    read = ollama.tokens_read
    answer = ChatMessage("assistant", "You said: " + "word " * 300)
    longer = (first, answer, ChatMessage("user", "and now"))
    await events_of(engine, CompletionRequest("gemma2:2b", longer, GenerationOptions(), 4096))
    assert ollama.tokens_read - read < read / 10
