"""The engine with a real `transformers serve` that runs the guide."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace

import pytest

from app.engines.base import ChatMessage, CompletionRequest, Delta, Done, EngineEvent, GenerationOptions
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.errors import ModelMissing, Unsupported
from tests.servers import guide, transformers_serve


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The server's address and its model's name."""
    with transformers_serve(guide(), tmp_path_factory.mktemp("serve")) as (program, name):
        yield program.url, name


@pytest.fixture
async def engine(served: tuple[str, str]) -> AsyncIterator[OpenAICompatibleEngine]:
    engine = OpenAICompatibleEngine(served[0])
    yield engine
    await engine.close()


def request(model: str, *texts: str, max_tokens: int = 64) -> CompletionRequest:
    """A conversation, the user's message first and last, answered greedily."""
    roles = ["user", "assistant"] * len(texts)
    messages = tuple(ChatMessage(role, text) for role, text in zip(roles, texts, strict=False))  # type: ignore[arg-type]
    return CompletionRequest(model, messages, GenerationOptions(temperature=0, max_tokens=max_tokens), 4096)


async def events_of(engine: OpenAICompatibleEngine, asked: CompletionRequest) -> list[EngineEvent]:
    return [event async for event in engine.complete(asked)]


def text_of(events: Sequence[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def end_of(events: Sequence[EngineEvent]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


async def test_its_models_are_listed(engine: OpenAICompatibleEngine, served: tuple[str, str]) -> None:
    (model,) = await engine.models()
    assert (model.id, model.context_length, engine.slots) == (f"vllm/{served[1]}", None, 1)


async def test_a_reply_streams_with_its_counts(engine: OpenAICompatibleEngine, served: tuple[str, str]) -> None:
    events = await events_of(engine, request(served[1], "How do I start it?"))
    done = end_of(events)
    assert text_of(events)
    assert sum(isinstance(event, Delta) for event in events) > 1
    assert done.usage.prompt_tokens
    assert done.usage.reply_tokens
    assert done.usage.generation_seconds > 0


async def test_a_reply_that_reaches_its_bound_says_so(engine: OpenAICompatibleEngine, served: tuple[str, str]) -> None:
    done = end_of(await events_of(engine, request(served[1], "How do I start it?", max_tokens=2)))
    assert (done.finish_reason, done.usage.reply_tokens) == ("length", 2)


async def test_the_whole_conversation_is_read(engine: OpenAICompatibleEngine, served: tuple[str, str]) -> None:
    first = await events_of(engine, request(served[1], "What is this?"))
    second = await events_of(engine, request(served[1], "What is this?", text_of(first), "Thank you!"))
    before, after = end_of(first).usage.prompt_tokens, end_of(second).usage.prompt_tokens
    assert before is not None
    assert after is not None
    assert after > before


async def test_a_model_that_it_does_not_serve_is_missing(engine: OpenAICompatibleEngine) -> None:
    with pytest.raises(ModelMissing) as missing:
        await events_of(engine, request("someone/else", "Hello"))
    assert missing.value.facts["model"] == "someone/else"


async def test_it_is_known_with_what_it_honours(engine: OpenAICompatibleEngine) -> None:
    (model,) = await engine.models()
    assert engine.label == "transformers serve"
    assert engine.features == {"stop", "seed", "tools", "raw"}
    assert (model.can_chat, model.can_embed, model.can_use_tools) == (True, False, None)


async def test_a_reply_ends_before_a_stop_text_and_has_none_of_it(
    engine: OpenAICompatibleEngine, served: tuple[str, str]
) -> None:
    asked = request(served[1], "How do I start it?")
    whole = text_of(await events_of(engine, asked))
    stop = whole[len(whole) // 2 :][:6]
    events = await events_of(engine, replace(asked, options=replace(asked.options, stop=(stop,), seed=1)))
    assert (text_of(events), end_of(events).finish_reason) == (whole[: whole.index(stop)], "stop")


async def test_raw_text_is_read_without_the_template(engine: OpenAICompatibleEngine, served: tuple[str, str]) -> None:
    asked = request(served[1], "How do I", max_tokens=8)
    raw = await events_of(engine, replace(asked, raw=True))
    assert text_of(raw)
    chat = end_of(await events_of(engine, asked)).usage.prompt_tokens
    assert 0 < (end_of(raw).usage.prompt_tokens or 0) < (chat or 0)


async def test_what_it_would_do_otherwise_is_refused(engine: OpenAICompatibleEngine, served: tuple[str, str]) -> None:
    with pytest.raises(Unsupported):
        await events_of(engine, request(served[1], "Count.", "One, two,"))
    with pytest.raises(Unsupported):
        await engine.embed(served[1], ["hello"], 4096)


async def test_it_answers_again_after_a_reader_has_left(
    engine: OpenAICompatibleEngine, served: tuple[str, str]
) -> None:
    stream = engine.complete(request(served[1], "How do I start it?"))
    async for event in stream:
        if isinstance(event, Delta):
            break
    await stream.aclose()
    assert text_of(await events_of(engine, request(served[1], "Hello")))
