"""Every way in which a server with OpenAI's API can fail, as a typed error; and what Ollama's own /v1 was recorded to
say, byte by byte."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest

from app.engines.base import ChatMessage, CompletionRequest, Delta, Done, EngineEvent, GenerationOptions
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.engines.openai_errors import PromptLargerThan, Refusal, error_of
from app.engines.openai_http import OpenAIHttp
from app.engines.openai_request import CHAT
from app.engines.openai_server import LM_STUDIO, OLLAMA, OTHER, VLLM, ServerKind
from app.engines.openai_stream import events_of
from app.errors import (
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineSilent,
    EngineUnreachable,
    ModelMissing,
    OutOfMemory,
    PromptTooLong,
    StreamCut,
)
from tests.fakes.openai_server import Answer, FakeOpenAI, Flavour
from tests.replay import replay

# vLLM's words for a prompt that is too long have changed from version to version (vllm/renderers/params.py and, before,
# vllm/entrypoints/openai/serving_engine.py). The newer ones stop counting at the limit.
LONG = "This model's maximum context length is 4096 tokens"
BOUND = f"{LONG}. However, you requested 512 output tokens and your prompt contains at least 3585 input tokens"
EXACT_WORDS = [
    (f"{LONG}. However, you requested 5000 tokens (4500 in the messages, 500 in the completion).", 4500),
    (f"{LONG}. However, your request has 4645 input tokens. Please reduce the length of the input messages.", 4645),
    (f"'max_tokens' is too large: 1024. {LONG} and your request has 3500 input tokens (1024 > 4096 - 3500).", 3500),
    (
        "Trying to keep the first 5406 tokens when context the overflows. However, the model is loaded with context "
        "length of only 4096 tokens, which is not enough.",  # LM Studio
        5406,
    ),
]
BOUNDING_WORDS = [
    (BOUND, 3585),
    (
        f"{LONG}. However, you requested 96 output tokens and your prompt contains 90000 characters (more than 60000 "
        "characters, which is the upper bound for 4000 input tokens).",
        4001,
    ),
    ("You passed 4097 input tokens. However, the model's context length is only 4096 tokens, resulting", 4097),
    (
        "You passed 90000 input characters. However, the model's context length is only 4096 tokens, resulting in a "
        "maximum input length of 4000 tokens (at most 60000 characters).",
        4001,
    ),
]


def request(text: str = "hello", *, model: str = "gemma2-2b") -> CompletionRequest:
    return CompletionRequest(model, (ChatMessage("user", text),), GenerationOptions(), 4096, "c")


async def failure_of(
    server: FakeOpenAI, answer: Answer, asked: CompletionRequest | None = None
) -> tuple[EngineError, list[EngineEvent]]:
    """The error that an answer ends in, and what came before it."""
    server.script(answer)
    engine = OpenAICompatibleEngine(server.url, timeout=0.2, load_timeout=0.2)
    events: list[EngineEvent] = []
    with pytest.raises(EngineError) as failed:  # noqa: PT012 - what came before is a part of the answer
        async for event in engine.complete(asked or request()):
            events.append(event)
    assert failed.value.sentence("en")
    assert failed.value.sentence("ru")
    return failed.value, events


def text_of(events: list[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


@pytest.fixture
async def vllm() -> AsyncIterator[FakeOpenAI]:
    async with FakeOpenAI("vllm") as server:
        yield server


# Before the first token


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, {"error": {"message": "EngineCore encountered an issue.", "code": 500}}, EngineFailed),
        (500, {"error": {"message": "CUDA out of memory. Tried to allocate 2 GiB"}}, OutOfMemory),
        (500, "Internal Server Error", EngineFailed),
        (502, "<html><h1>502 Bad Gateway</h1></html>", EngineFailed),
        (503, "", EngineFailed),
        (400, {"error": {"message": "temperature must be non-negative", "code": 400}}, EngineRefused),
        (422, {"detail": "Unexpected fields in the request: {'x'}"}, EngineRefused),
        (403, {"error": "forbidden"}, EngineRefused),
        (404, "404 page not found", EngineRefused),
        (404, {"error": {"message": "The model `x` does not exist.", "code": 404}}, ModelMissing),
        (400, {"error": {"message": "not on this server", "code": "model_not_found"}}, ModelMissing),
        (200, "<html><body>Welcome to nginx!</body></html>", EngineFailed),
    ],
)
async def test_a_refusal_is_a_typed_error(
    vllm: FakeOpenAI, status: int, body: object, error: type[EngineError]
) -> None:
    failed, events = await failure_of(vllm, Answer(status=status, body=body))
    assert type(failed) is error
    assert text_of(events) == ""


async def test_a_server_that_has_no_time_is_neither_broken_nor_refuses(vllm: FakeOpenAI) -> None:
    failed, _ = await failure_of(vllm, Answer(status=429, body={"error": {"message": "Too many requests"}}))
    assert type(failed) is EngineError


async def test_a_proxys_page_is_not_shown_to_the_user(vllm: FakeOpenAI) -> None:
    failed, _ = await failure_of(vllm, Answer(status=502, body="<html><h1>502 Bad Gateway</h1></html>"))
    assert failed.facts["detail"] == "HTTP 502"


async def test_silence_before_the_first_token_is_given_up(vllm: FakeOpenAI) -> None:
    failed, _ = await failure_of(vllm, Answer(hangs=True))
    assert isinstance(failed, EngineSilent)


@pytest.mark.parametrize("flavour", ["vllm", "transformers"])
async def test_a_model_that_it_does_not_have_is_named_with_the_way_to_get_it(flavour: Flavour) -> None:
    async with FakeOpenAI(flavour, "here") as server:
        failed, _ = await failure_of(server, Answer(), request(model="gone"))
    assert isinstance(failed, ModelMissing)
    assert failed.facts["model"] == "gone"
    assert "gone" in str(failed.facts["remedy"])


async def test_a_llama_cpp_that_never_gets_ready_is_given_up() -> None:
    async with FakeOpenAI("llama.cpp", loading=1_000_000) as server:
        failed, _ = await failure_of(server, Answer())
    assert isinstance(failed, EngineSilent)


async def test_a_server_that_went_away_is_unreachable() -> None:
    async with FakeOpenAI("vllm") as server:
        engine = OpenAICompatibleEngine(server.url)
        await engine.models()
    with pytest.raises(EngineUnreachable):
        async for _ in engine.complete(request()):
            pass


@pytest.mark.parametrize("body", [b'{"models": []}', b'{"data": "none"}', b'["a"]', b"<html></html>", b""])
async def test_another_program_at_the_address_is_told_apart(body: bytes) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=body)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        with pytest.raises(EngineError) as failed:
            await OpenAICompatibleEngine("http://other.test", client=client).models()
    assert "VLLM_URL" in failed.value.sentence("en")


# In mid-stream


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer("Half a", then="error"), EngineFailed),
        (Answer("Half a", then="error", error='{"error": "CUDA out of memory"}'), OutOfMemory),
        (Answer("Half a", then="error", error='{"error": "a "quoted" word"}'), EngineFailed),  # transformers serve
        (Answer("Half a", then="error", error="[1]"), EngineFailed),
        (Answer("Half a", then="cut"), StreamCut),
        (Answer("Half a", finish=None), StreamCut),
        (Answer("Half a", then="freeze"), EngineSilent),
        (Answer("", finish=None), StreamCut),
    ],
)
async def test_what_goes_wrong_in_mid_stream_is_a_typed_error_after_the_text(
    vllm: FakeOpenAI, answer: Answer, error: type[EngineError]
) -> None:
    failed, events = await failure_of(vllm, answer)
    assert type(failed) is error
    assert text_of(events) == answer.text


# Too long


async def test_llama_cpp_names_the_exact_sizes() -> None:
    words = "request (732 tokens) exceeds the available context size (512 tokens), try increasing it"
    error = {"code": 400, "message": words, "type": "exceed_context_size_error", "n_prompt_tokens": 732, "n_ctx": 512}
    async with FakeOpenAI("llama.cpp") as server:
        failed, _ = await failure_of(server, Answer(status=400, body={"error": error}))
    assert isinstance(failed, PromptTooLong)
    assert (failed.tokens, failed.limit) == (732, 512)


@pytest.mark.parametrize(
    ("words", "tokens", "kind"),
    [(*told, PromptTooLong) for told in EXACT_WORDS] + [(*told, PromptLargerThan) for told in BOUNDING_WORDS],
)
def test_the_sizes_are_read_from_the_words_of_each_version(words: str, tokens: int, kind: type[PromptTooLong]) -> None:
    refusal = Refusal.read(400, json.dumps({"error": {"message": words, "code": 400}}))
    problem = error_of(refusal, VLLM, "m")
    assert type(problem) is kind
    assert (problem.facts["tokens"], problem.facts["limit"]) == (tokens, 4096)


async def test_where_vllm_stopped_counting_it_is_asked_for_the_exact_size(vllm: FakeOpenAI) -> None:
    failed, _ = await failure_of(vllm, Answer(status=400, body={"error": {"message": BOUND}}), request("word " * 7000))
    assert type(failed) is PromptTooLong
    assert (failed.tokens, failed.limit) == (7000, 4096)


async def test_where_nobody_counts_the_bound_is_all_that_is_known() -> None:
    async with FakeOpenAI("transformers") as server:
        failed, _ = await failure_of(server, Answer(status=400, body={"error": {"message": BOUND}}))
    assert isinstance(failed, PromptTooLong)
    assert failed.tokens == 3585


# Ollama's /v1, as recorded


async def recorded_events(scenario: str, kind: ServerKind) -> list[EngineEvent]:
    async with replay(scenario) as server:
        http = OpenAIHttp(server.url)
        chunks = http.chunks(CHAT, {}, kind, model="gemma2:2b", first_limit=5, limit=5)
        async with aclosing(chunks), aclosing(events_of(chunks, kind)) as events:
            found: list[EngineEvent] = [event async for event in events]
        await http.close()
    return found


async def test_a_recorded_stream_of_ollama_that_repeated_itself_is_kept_and_said_so() -> None:
    events = await recorded_events("v1_repetition_guard", OLLAMA)
    done = events[-1]
    assert text_of(events).startswith(" aspg aspg")
    assert isinstance(done, Done)
    assert (done.finish_reason, done.usage.prompt_tokens, done.usage.reply_tokens) == ("repetition", None, None)


@pytest.mark.parametrize("kind", [VLLM, LM_STUDIO, OTHER])
async def test_the_same_stream_from_any_other_server_was_cut(kind: ServerKind) -> None:
    with pytest.raises(StreamCut):
        await recorded_events("v1_repetition_guard", kind)


async def test_a_recorded_refusal_of_ollama_names_the_missing_model() -> None:
    with pytest.raises(ModelMissing) as missing:
        await recorded_events("v1_error_missing", OLLAMA)
    assert missing.value.facts["remedy"] == "ollama pull gemma2:2b"


async def test_a_password_in_the_address_is_sent_and_shown_nowhere() -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers.get("authorization", ""))
        raise httpx.ConnectError("nobody there")

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    engine = OpenAICompatibleEngine("http://ann:hunter2@models.example.org/v1", client=client)
    with pytest.raises(EngineUnreachable) as refused:
        await engine.models()
    assert sent[0] == "Basic " + b64encode(b"ann:hunter2").decode()
    assert "hunter2" not in str(refused.value)
    assert "http://models.example.org" in str(refused.value)
    await engine.close()
