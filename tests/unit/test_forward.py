"""Several raw prompts at once: results in their order, each with its own end and error."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import Any, Final

import pytest

from app.asker import Asker
from app.chat import Chat
from app.engines.base import Completion, CompletionRequest, Done, GenerationOptions, Usage
from app.engines.catalog import Catalog
from app.engines.local import LocalEngine
from app.errors import (
    Busy,
    ChatError,
    EmptyMessage,
    EngineError,
    EngineFailed,
    MessageTooLarge,
    NoModel,
    PromptTooLong,
    Stopping,
    UnknownModel,
    Unsupported,
)
from app.forward import forward_many
from app.metrics import Ended
from app.prompting import ReplyOptions
from app.settings import GUIDE_DIR
from tests.fakes.engine import ScriptedEngine

BROKEN: Final = EngineFailed(engine="Ollama", detail="broken on purpose")
ASKER = Asker("api", "key")
OPTIONS: Final = ReplyOptions("gemma2:2b", system="Be kind.", generation=GenerationOptions(max_tokens=64))


class TogetherEngine(ScriptedEngine):
    """Generates prompts together: each comes back in capitals. `!fail` fails alone, `!break` all that are with it."""

    batch = 3

    def __init__(self) -> None:
        super().__init__(name="transformers")
        self.features = frozenset({"raw"})
        self.batches: list[list[str]] = []
        self.working = asyncio.Event()

    async def complete_batch(self, requests: Sequence[CompletionRequest]) -> list[Completion | EngineError]:
        prompts = [request.messages[-1].content for request in requests]
        self.batches.append(prompts)
        self.working.set()
        await self.go_on.wait()
        if "!break" in prompts:
            raise BROKEN
        usage = Usage(2, 3, 0.0, 1.0, 2.0, cached_tokens=0)
        return [BROKEN if prompt == "!fail" else Completion(prompt.upper(), Done("stop", usage)) for prompt in prompts]


def raw_engine(*replies: str | EngineError, slots: int = 1) -> ScriptedEngine:
    engine = ScriptedEngine(*replies)
    engine.features = frozenset({"raw"})
    engine.slots = slots
    return engine


def chat_with(engine: ScriptedEngine, **limits: int) -> Chat:
    return Chat(Catalog([engine]), **limits)  # type: ignore[arg-type]


@pytest.fixture
def together() -> TogetherEngine:
    return TogetherEngine()


# One after the other, or as many at once as there are slots


async def test_the_results_stand_in_the_order_of_the_prompts() -> None:
    engine = raw_engine("one", BROKEN, "three")
    results = await forward_many(chat_with(engine), ["a", "b", "c"], OPTIONS, ASKER)
    assert [(result.prompt, result.text) for result in results] == [("a", "one"), ("b", ""), ("c", "three")]
    assert [result.finish_reason for result in results] == ["stop", None, "stop"]
    assert [result.error for result in results] == [None, BROKEN, None]
    assert [result.metrics.outcome for result in results] == ["finished", "failed", "finished"]
    assert {result.model.id for result in results} == {"ollama/gemma2:2b"}


@pytest.mark.parametrize("together", [False, True])
async def test_what_nobody_has_foreseen_ends_no_other_prompt(
    together: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = TogetherEngine() if together else raw_engine()
    work = engine.complete_batch if isinstance(engine, TogetherEngine) else engine.complete

    def odd(asked: CompletionRequest | Sequence[CompletionRequest]) -> Any:
        if "!odd" in str(asked):
            raise ZeroDivisionError
        return work(asked)  # type: ignore[arg-type]

    monkeypatch.setattr(engine, work.__name__, odd)
    chat = chat_with(engine)
    ended: list[str] = []
    chat.on_end = lambda reply: ended.append(reply.metrics.outcome)
    results = await forward_many(chat, ["a", "b", "c", "!odd"], OPTIONS, ASKER)
    assert [result.error is None for result in results] == [True, True, True, False]
    assert str(results[3].error) == "Something went wrong: ZeroDivisionError"
    assert sorted(ended) == ["failed", "finished", "finished", "finished"]
    assert "of a batch broke off" in caplog.text
    assert chat.serving == 0


async def test_each_prompt_is_sent_alone_as_it_stands() -> None:
    engine = raw_engine()
    chat = chat_with(engine)
    await forward_many(chat, ["one", "other"], OPTIONS, ASKER)
    assert [[message.content for message in sent.messages] for sent in engine.requests] == [["one"], ["other"]]
    assert all(sent.raw for sent in engine.requests)
    # They do not come back: no slot and no cache is kept for them.
    assert {sent.conversation for sent in engine.requests} == {None}
    assert {sent.held_tokens for sent in engine.requests} == {0}
    assert chat.warmth_of(engine).tokens("ollama/gemma2:2b") == 0


@pytest.mark.parametrize("slots", [1, 2])
async def test_as_many_are_worked_on_at_once_as_there_are_slots(slots: int) -> None:
    engine = raw_engine(slots=slots)
    engine.go_on.clear()
    # Nobody may wait: those beyond the slots are held back here.
    task = asyncio.create_task(forward_many(chat_with(engine, max_waiting=0), list("abcde"), OPTIONS, ASKER))
    while len(engine.requests) < slots:
        await asyncio.sleep(0)
    assert len(engine.requests) == slots
    engine.go_on.set()
    assert all(result.error is None for result in await task)


async def test_leaving_ends_the_engines_work() -> None:
    engine = raw_engine(slots=2)
    engine.go_on.clear()
    task = asyncio.create_task(forward_many(chat_with(engine), list("abc"), OPTIONS, ASKER))
    while len(engine.requests) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (len(engine.requests), engine.closed) == (2, 2)


# Together


async def test_prompts_are_generated_together_those_of_like_length(together: TogetherEngine) -> None:
    results = await forward_many(chat_with(together), ["long text", "a", "a longer text", "b", "cc"], OPTIONS, ASKER)
    assert together.batches == [["a", "b", "cc"], ["long text", "a longer text"]]
    assert [result.text for result in results] == ["LONG TEXT", "A", "A LONGER TEXT", "B", "CC"]
    metrics = results[0].metrics
    assert (metrics.prompt_tokens, metrics.reply_tokens, metrics.tokens_per_second) == (2, 3, 1.5)


async def test_one_that_fails_does_not_fail_the_others(together: TogetherEngine) -> None:
    results = await forward_many(
        chat_with(together, max_message_bytes=9), ["!fail", "", "ok", "x" * 10], OPTIONS, ASKER
    )
    assert [type(result.error) for result in results] == [EngineFailed, EmptyMessage, type(None), MessageTooLarge]
    assert results[2].text == "OK"
    assert results[0].finish_reason is None


async def test_a_batch_that_breaks_fails_only_its_own_prompts(together: TogetherEngine) -> None:
    results = await forward_many(chat_with(together), ["a", "!break", "b", "something long", "else"], OPTIONS, ASKER)
    assert [result.error is BROKEN for result in results] == [False, True, False, True, False]


async def test_others_have_their_turn_between_two_batches(together: TogetherEngine) -> None:
    chat = chat_with(together)
    together.go_on.clear()
    task = asyncio.create_task(forward_many(chat, list("abcdef"), OPTIONS, ASKER))
    await together.working.wait()
    other = chat.queue_of(together).join()
    assert (chat.queue_of(together).place(other).seconds_left or 0) > 1
    together.go_on.set()
    async for _ in other.wait():
        pass
    assert len(together.batches) == 1
    other.leave()
    assert len(await task) == 6
    assert len(together.batches) == 2


async def test_a_server_that_stops_begins_no_other_batch(together: TogetherEngine) -> None:
    chat = chat_with(together)
    together.go_on.clear()
    task = asyncio.create_task(forward_many(chat, list("abcdef"), OPTIONS, ASKER))
    await together.working.wait()
    chat.stopping = True
    together.go_on.set()
    results = await task
    assert [type(result.error) for result in results] == [type(None)] * 3 + [Stopping] * 3


async def test_a_server_that_stops_works_on_a_batch_that_has_a_place_in_the_queue(together: TogetherEngine) -> None:
    chat = chat_with(together)
    ticket = chat.queue_of(together).join()
    task = asyncio.create_task(forward_many(chat, list("abcdef"), OPTIONS, ASKER))
    while not chat.queue_of(together).waiting:
        await asyncio.sleep(0)
    chat.stopping = True
    ticket.leave()
    assert [type(result.error) for result in await task] == [type(None)] * 3 + [Stopping] * 3


async def test_each_prompt_is_told_of_in_the_end(together: TogetherEngine) -> None:
    ended: list[Ended] = []
    chat = chat_with(together)
    chat.on_end = ended.append
    await forward_many(chat, ["a", "!fail", ""], OPTIONS, ASKER)
    assert [(one.question, one.answer, one.metrics.outcome) for one in ended] == [
        ("a", "A", "finished"),
        ("!fail", "", "failed"),
        ("", "", "failed"),
    ]
    assert {one.asker for one in ended} == {ASKER}
    ended.clear()
    together.go_on.clear()
    together.working.clear()
    task = asyncio.create_task(forward_many(chat, ["a", ""], OPTIONS, ASKER))
    await together.working.wait()
    task.cancel()
    await asyncio.wait([task])
    assert [one.question for one in ended] == ["a", ""]
    assert (ended[0].metrics.outcome, ended[0].error) == ("stopped", None)


# What cannot be asked at all


@pytest.mark.parametrize(
    ("model", "features", "error"),
    [("", {"raw"}, NoModel), ("no-such", {"raw"}, UnknownModel), ("gemma2:2b", set(), Unsupported)],
)
async def test_what_concerns_all_prompts_is_an_error(model: str, features: set[str], error: type[ChatError]) -> None:
    engine = raw_engine()
    engine.features = frozenset(features)  # type: ignore[arg-type]
    with pytest.raises(error):
        await forward_many(chat_with(engine), ["a"], ReplyOptions(model), ASKER)
    assert engine.requests == []


@pytest.mark.parametrize("make", [raw_engine, TogetherEngine])
async def test_a_full_queue_refuses_all(make: type[ScriptedEngine]) -> None:
    engine = make()
    chat = chat_with(engine, max_waiting=0)
    ticket = chat.queue_of(engine).join()
    with pytest.raises(Busy):
        await forward_many(chat, ["a", "b"], OPTIONS, ASKER)
    ticket.leave()
    assert (await forward_many(chat, ["a"], OPTIONS, ASKER))[0].error is None


async def test_no_prompts_have_no_results(together: TogetherEngine) -> None:
    assert await forward_many(chat_with(together), [], OPTIONS, ASKER) == []


# The real one


async def test_the_guide_generates_prompts_together() -> None:
    pytest.importorskip("torch", reason="torch is not installed (make install-local)")
    pytest.importorskip("transformers", reason="transformers is not installed (make install-local)")
    engine = LocalEngine(GUIDE_DIR, [], device="cpu", batch=2)
    numbers = count()
    chat = Chat(Catalog([engine]), clock=lambda: float(next(numbers)))
    options = ReplyOptions("guide", generation=GenerationOptions(temperature=0, max_tokens=8))
    results = await forward_many(chat, ["How do I", "word " * 5000, "Run"], options, ASKER)
    assert [type(result.error) for result in results] == [type(None), PromptTooLong, type(None)]
    assert results[0].text
    assert results[2].text
    assert {result.metrics.context_length for result in results} == {4096}
    await engine.close()
