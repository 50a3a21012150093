"""The Ollama engine when Ollama fails, or something that is no Ollama answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest

from app.engines.base import ChatMessage, CompletionRequest, EngineEvent, GenerationOptions, Loading, Progress
from app.engines.ollama import OllamaEngine
from app.errors import (
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineSilent,
    EngineUnreachable,
    ModelMissing,
    ModelProcessDied,
    ModelTooLarge,
    OutOfMemory,
    PromptTooLong,
    StreamCut,
)
from tests.fakes.ollama import FakeOllama
from tests.replay import body_of, recording, replay
from tests.unit.completions import end_of, events_of, text_of
from tests.unit.conftest import Connect

URL: Final = "http://ollama"
WORDS: Final = "the quick brown fox jumps over a"
TOO_LONG: Final = json.dumps(
    {"error": {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": 5000, "n_ctx": 4096}}
)


def request(text: str = "hello", *, model: str = "gemma2:2b", expected: int = 0) -> CompletionRequest:
    return CompletionRequest(model, (ChatMessage("user", text),), GenerationOptions(), 4096, "c", expected)


async def in_pieces(body: bytes, size: int) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), size):
        yield body[begin : begin + size]


def answering(status: int, body: str, *, piece: int = 1000) -> httpx.AsyncClient:
    """A client whose server says this, in pieces of so many bytes, to everything but /api/tags and /api/ps."""

    def answer(asked: httpx.Request) -> httpx.Response:
        if asked.url.path in ("/api/tags", "/api/ps"):
            return httpx.Response(200, json={"models": [{"name": "gemma2:2b", "context_length": 4096}]})
        return httpx.Response(status, content=in_pieces(body.encode(), piece))

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


async def pulled(engine: OllamaEngine) -> list[Progress]:
    return [progress async for progress in engine.pull("phi3")]


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(speedup=200) as fake:
        yield fake


# The fake's ways to fail


@pytest.mark.parametrize(
    ("message", "error", "said"),
    [
        ("!die", ModelProcessDied, WORDS),
        ("!die-prefill", ModelProcessDied, ""),
        ("!500", EngineFailed, ""),
        ("!error strange words", EngineFailed, WORDS),
        ("!cut", StreamCut, WORDS),
    ],
)
async def test_a_failure_is_a_typed_error_after_all_text_that_came(
    ollama: FakeOllama, message: str, error: type[EngineError], said: str, connect: Connect
) -> None:
    events: list[EngineEvent] = []
    with pytest.raises(EngineError) as failed:  # noqa: PT012 - what came before the failure is looked at below
        async for event in connect(ollama.url).complete(request(message)):
            events.append(event)
    assert type(failed.value) is error
    assert text_of(events) == said


@pytest.mark.parametrize(("message", "error"), [("!die-loading", ModelProcessDied), ("!oom", OutOfMemory)])
async def test_a_model_thrown_out_meanwhile_may_fail_to_load_for_the_chat_itself(
    ollama: FakeOllama, message: str, error: type[EngineError], connect: Connect
) -> None:
    engine = connect(ollama.url)
    await engine.load("gemma2:2b", 4096)
    ollama.unload()
    with pytest.raises(error):
        await events_of(engine, request(message))


async def test_a_model_process_that_died_is_loaded_anew_and_shown_so_though_ollama_lists_it(
    ollama: FakeOllama, connect: Connect
) -> None:
    engine = connect(ollama.url)
    with pytest.raises(ModelProcessDied):
        await events_of(engine, request("!die"))
    assert [runner.alive for runner in ollama.loaded()] == [False]
    events = await events_of(engine, request("!echo back again"))
    assert isinstance(events[0], Loading)
    assert text_of(events) == "back again"
    assert ollama.loads == 2


async def test_a_model_that_vanished_is_named_with_the_way_to_get_it(ollama: FakeOllama, connect: Connect) -> None:
    with pytest.raises(ModelMissing) as missing:
        await events_of(connect(ollama.url), request(model="gone:1b"))
    assert missing.value.facts["remedy"] == "ollama pull gone:1b"


async def test_a_prompt_that_is_too_long_is_refused_with_both_numbers_and_reads_nothing(
    ollama: FakeOllama, connect: Connect
) -> None:
    with pytest.raises(PromptTooLong) as refused:
        await events_of(connect(ollama.url), request("word " * 5000))
    assert refused.value.tokens > refused.value.limit == 4096
    assert ollama.tokens_read == 0


async def test_an_ollama_that_goes_away_is_unreachable_and_used_again_when_it_is_back(
    ollama: FakeOllama, connect: Connect
) -> None:
    engine = connect(ollama.url)
    await events_of(engine, request())
    await ollama.go_away()
    for question in (engine.version(), engine.models(), engine.load("gemma2:2b", 4096), events_of(engine, request())):
        with pytest.raises(EngineUnreachable) as failed:
            await question
        assert failed.value.facts["url"] == ollama.url
    await ollama.come_back()
    assert text_of(await events_of(engine, request())) == "You said: hello"


async def test_a_name_that_does_not_resolve_is_unreachable(connect: Connect) -> None:
    with pytest.raises(EngineUnreachable):
        await connect("http://ollama.invalid:11434").version()


# Silence


@pytest.mark.parametrize(("message", "limit"), [("!hang", 0.2 + 3 * 2 / 55), ("!freeze", 0.2)])
async def test_silence_past_its_limit_is_given_up(
    ollama: FakeOllama, message: str, limit: float, connect: Connect
) -> None:
    engine = connect(ollama.url, timeout=0.2)
    await engine.load("gemma2:2b", 4096)
    with pytest.raises(EngineSilent) as silent:
        await events_of(engine, request(message, expected=2))
    assert silent.value.facts["seconds"] == pytest.approx(limit)


async def test_where_nothing_is_known_of_the_model_the_first_token_may_wait_for_its_load(
    ollama: FakeOllama, connect: Connect
) -> None:
    ollama.faults["/api/ps"] = "500"
    with pytest.raises(EngineSilent) as silent:
        await events_of(connect(ollama.url, timeout=0.1, load_timeout=0.3), request("!hang"))
    assert silent.value.facts["seconds"] == pytest.approx(0.4)


async def test_loading_has_a_limit_of_its_own(connect: Connect) -> None:
    async with FakeOllama(load_seconds=60) as ollama:
        with pytest.raises(EngineSilent) as silent:
            await events_of(connect(ollama.url, load_timeout=0.1), request())
        assert silent.value.facts["seconds"] == 0.1
        await ollama.idle.wait()


@pytest.mark.parametrize("path", ["/api/version", "/api/tags"])
async def test_an_ollama_that_hangs_is_taken_for_one_that_is_not_there(
    ollama: FakeOllama, path: str, connect: Connect
) -> None:
    ollama.faults[path] = "hang"
    engine = connect(ollama.url, models_timeout=0.1)
    with pytest.raises(EngineUnreachable):
        await (engine.version() if path == "/api/version" else engine.models())


# Connections that break


@pytest.mark.parametrize("name", ["chat_stream", "chat_json", "repetition_guard"])
async def test_a_connection_that_breaks_within_the_answer_is_a_cut_stream(name: str, connect: Connect) -> None:
    async with replay(name, cut=True) as server:
        with pytest.raises(StreamCut):
            await events_of(connect(server.url), request())


async def test_a_connection_that_breaks_after_the_last_line_has_cost_nothing(connect: Connect) -> None:
    async with replay("chat_stop", cut=True) as server:
        events = await events_of(connect(server.url), request())
    assert end_of(events).finish_reason == "stop"


async def test_a_refusal_whose_words_break_off_is_told_by_its_status(connect: Connect) -> None:
    async with replay("error_think_unsupported", cut=True) as server:
        with pytest.raises(EngineError, match="HTTP 400 Bad Request"):
            await events_of(connect(server.url), request())


async def test_a_connection_closed_without_an_answer_is_a_failure_and_no_cut_reply(connect: Connect) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        engine = connect(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(EngineFailed, match="closed the connection without an answer"):
            await engine.load("gemma2:2b", 4096)
        with pytest.raises(EngineFailed, match="closed the connection without an answer"):
            await events_of(engine, request())


async def test_a_pull_that_ends_without_success_is_a_cut_stream(connect: Connect) -> None:
    with pytest.raises(StreamCut):
        assert [
            step async for step in connect(URL, client=answering(200, '{"status":"pulling manifest"}\n')).pull("phi3")
        ]


# Words


@pytest.mark.parametrize(
    ("status", "words", "error"),
    [
        (500, "model requires more system memory (9.1 GiB) than is available (2.0 GiB)", OutOfMemory),
        (500, "llama runner process has terminated: cudaMalloc failed: out of memory", OutOfMemory),
        (500, "llama-server process has terminated: exit status 1: failed to allocate buffer", OutOfMemory),
        (500, "llama runner process no longer running: 2", ModelProcessDied),
        (500, 'Post "http://127.0.0.1:40123/completion": dial tcp: connect: connection refused', ModelProcessDied),
        (500, TOO_LONG, PromptTooLong),
        (500, json.dumps({"error": {"type": "another"}}), EngineFailed),
        (503, "server busy, please try again. maximum pending requests exceeded", EngineFailed),
        (400, "unexpected EOF", EngineRefused),
        (400, TOO_LONG, PromptTooLong),
    ],
)
async def test_ollamas_words_decide_which_error_it_is(
    status: int, words: str, error: type[EngineError], connect: Connect
) -> None:
    with pytest.raises(EngineError) as failed:
        await events_of(connect(URL, client=answering(status, json.dumps({"error": words}))), request())
    assert type(failed.value) is error


@pytest.mark.parametrize(
    ("words", "error"),
    [("CUDA error: out of memory", OutOfMemory), (TOO_LONG, PromptTooLong), ("broken", EngineFailed)],
)
async def test_an_error_line_is_read_as_the_same_words(words: str, error: type[EngineError], connect: Connect) -> None:
    with pytest.raises(EngineError) as failed:
        await events_of(connect(URL, client=answering(200, json.dumps({"error": words}) + "\n")), request())
    assert type(failed.value) is error


async def test_words_within_an_object_as_other_servers_have_them_are_found(connect: Connect) -> None:
    engine = connect(URL, client=answering(500, json.dumps({"error": {"message": "broken inside"}})))
    with pytest.raises(EngineFailed) as failed:
        await events_of(engine, request())
    assert failed.value.facts["detail"] == "broken inside"


async def test_the_words_of_a_pull_say_nothing_of_a_model_process(connect: Connect) -> None:
    words = "read tcp 10.0.0.1:5: connection reset by peer"
    engine = connect(URL, client=answering(200, json.dumps({"error": words})))
    with pytest.raises(EngineFailed, match="connection reset") as failed:
        await pulled(engine)
    assert type(failed.value) is EngineFailed


@pytest.mark.parametrize("line", ["half a line", '{"digest": "sha256:1", "total": "large"}'])
async def test_a_pull_that_makes_no_sense_is_a_failure(line: str, connect: Connect) -> None:
    engine = connect(URL, client=answering(200, line))
    with pytest.raises(EngineFailed):
        await pulled(engine)


# Not Ollama


async def test_a_proxys_page_is_told_by_its_status_without_its_markup(connect: Connect) -> None:
    page = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
    with pytest.raises(EngineFailed) as failed:
        await events_of(connect(URL, client=answering(502, page)), request())
    assert failed.value.facts["detail"] == "HTTP 502 Bad Gateway"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "\n",
        "not json\n",
        "[1, 2]\n",
        '{"message": {"content": "half"\n',
        '{"done": true, "eval_count": "many"}\n',
    ],
)
async def test_an_answer_that_makes_no_sense_is_a_failure(body: str, connect: Connect) -> None:
    with pytest.raises(EngineFailed):
        await events_of(connect(URL, client=answering(200, body)), request())


@pytest.mark.parametrize("body", ["", "hello", "[]", '{"models": 5}', '{"models": [{"size": 1}]}'])
async def test_a_list_of_models_that_makes_no_sense_is_an_engine_error(body: str, connect: Connect) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body.encode()))
    with pytest.raises(EngineError, match="another program answers"):
        await connect("http://elsewhere", client=httpx.AsyncClient(transport=transport)).models()


async def test_an_ollama_without_models_has_none(connect: Connect) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"models": None}))
    assert not await connect("http://ollama", client=httpx.AsyncClient(transport=transport)).models()


@pytest.mark.parametrize("piece", [1, 7, 100_000])
async def test_lines_are_put_together_wherever_the_connection_splits_them(piece: int, connect: Connect) -> None:
    body = body_of(recording("chat_stop")).decode()
    events = await events_of(connect(URL, client=answering(200, body.rstrip("\n"), piece=piece)), request())
    assert end_of(events).finish_reason == "stop"
    assert text_of(events) == "".join(json.loads(line)["message"]["content"] for line in body.splitlines())


async def test_a_model_that_does_not_fit_the_memory_is_refused_before_it_is_loaded(ollama: FakeOllama) -> None:
    engine = OllamaEngine(ollama.url, memory=2000)
    with pytest.raises(ModelTooLarge) as refused:
        await engine.load("gemma2:2b", 4096)
    assert refused.value.facts["needed"] == 2036
    assert "2,036 MB" in refused.value.sentence("en")
    with pytest.raises(ModelTooLarge):
        await events_of(engine, request())
    assert ollama.loads == 0
    await engine.close()


async def test_each_slot_needs_a_context_of_its_own(ollama: FakeOllama) -> None:
    engine = OllamaEngine(ollama.url, memory=2100, slots=2)
    with pytest.raises(ModelTooLarge):
        await engine.load("gemma2:2b", 4096)
    await engine.close()


async def test_a_model_that_fits_is_loaded(ollama: FakeOllama) -> None:
    engine = OllamaEngine(ollama.url, memory=2100)
    await engine.load("gemma2:2b", 4096)
    assert ollama.loads == 1
    await engine.close()
