"""The transformers engine with the guide, the real model of this repository."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from statistics import median

import pytest

from app.engines.base import Delta, Done, Reading
from app.engines.local import LocalEngine
from app.engines.local_model import PREFILL
from app.errors import EngineFailed, PromptTooLong
from app.settings import GUIDE_DIR, ROOT
from tests.local import ask, before_each_step, request

pytest.importorskip("torch", reason="torch is not installed (make install-local)")
pytest.importorskip("transformers", reason="transformers is not installed (make install-local)")

GUIDE = "guide"
QUESTIONS = (
    "hi",
    "How do I start it?",
    "Как запустить программу?",
    "which model answers?",
    "what is Ollama",
    "почему ответы медленные?",
    "thanks",
    "How do I change the port?",
    "what does NUM_CTX do",
    "кто ты?",
)
# Longer than a few pieces of a prompt.
LONG = " ".join(["what is the port and how do I change it"] * 60)


@pytest.fixture
async def engine() -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(GUIDE_DIR, [], device="cpu")
    await engine.load(GUIDE, 4096)
    yield engine
    await engine.close()


async def test_the_guide_is_offered_and_described_without_torch() -> None:
    program = (
        "import asyncio, sys\n"
        "from app.engines.local import LocalEngine\n"
        "from app.settings import GUIDE_DIR\n"
        "model, = asyncio.run(LocalEngine(GUIDE_DIR, ['Some/Model', '/no/folder']).models())\n"
        "print(model.id, model.context_length, model.family, model.can_think, model.loaded)\n"
        "assert model.parameters.endswith('M') and 0 < model.size < 15_000_000\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
    )
    run = [sys.executable, "-c", program]
    said = await asyncio.to_thread(subprocess.run, run, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["transformers/guide", "4096", "qwen3", "False", "False"]


async def test_a_reply_is_streamed_and_its_cost_told(engine: LocalEngine) -> None:
    pieces = [event async for event in engine.complete(request(GUIDE, "How do I start it?"))]
    assert sum(isinstance(event, Delta) for event in pieces) > 5
    assert isinstance(pieces[0], Reading)
    end = pieces[-1]
    assert isinstance(end, Done)
    assert end.usage.prompt_tokens == pieces[0].total
    assert 0 < (end.usage.reply_tokens or 0) <= 32
    assert min(end.usage.prompt_seconds, end.usage.generation_seconds) > 0


async def test_the_model_is_loaded_once_on_first_use_and_that_is_told() -> None:
    engine = LocalEngine(GUIDE_DIR, [], device="cpu")
    first, second = [await ask(engine, request(GUIDE, "hi")) for _ in range(2)]
    assert len(first.loadings) == 1
    assert first.end.usage.load_seconds > 0
    assert (second.loadings, second.end.usage.load_seconds) == ([], 0)
    assert [model.loaded for model in await engine.models()] == [True]
    await engine.close()


async def test_progress_of_reading_is_true_and_in_small_steps(engine: LocalEngine) -> None:
    reply = await ask(engine, request(GUIDE, LONG))
    processed = [reading.processed for reading in reply.readings]
    assert processed == [*range(0, reply.prompt - 1, PREFILL), reply.prompt - 1]
    assert {reading.total for reading in reply.readings} == {reply.prompt}
    seconds = [reading.seconds_left or 0 for reading in reply.readings]
    assert seconds == sorted(seconds, reverse=True)


async def test_a_conversation_of_20_turns_gets_the_same_replies_with_the_kept_cache_as_without(
    engine: LocalEngine,
) -> None:
    texts: list[str] = []
    before = 0
    for turn in range(20):
        texts.append(QUESTIONS[turn % len(QUESTIONS)])
        kept = await ask(engine, request(GUIDE, *texts, max_tokens=16))
        anew = await ask(engine, request(GUIDE, *texts, conversation=None, max_tokens=16))
        assert kept.text == anew.text
        assert kept.text
        assert anew.cached == 0
        assert kept.cached >= before  # all of the last turn's prompt at least
        before = kept.prompt
        texts.append(kept.text)


async def test_only_what_is_new_is_read_again(engine: LocalEngine) -> None:
    first = await ask(engine, request(GUIDE, LONG))
    second = await ask(engine, request(GUIDE, LONG, first.text, "thanks"))
    replied = (first.end.usage.reply_tokens or 0) - 1
    assert second.cached == first.prompt + replied
    assert len(second.readings) <= 2


async def test_two_users_at_once_do_not_mix(engine: LocalEngine) -> None:
    async def talk(conversation: str | None, questions: tuple[str, ...]) -> list[str]:
        texts: list[str] = []
        for question in questions:
            texts.append(question)
            texts.append((await ask(engine, request(GUIDE, *texts, conversation=conversation))).text)
        return texts

    english, russian = QUESTIONS[3:6], QUESTIONS[2:9:3]
    alone = [await talk(None, english), await talk(None, russian)]
    together = await asyncio.gather(talk("one", english), talk("other", russian))
    assert together == alone


async def test_russian_comes_in_whole_letters(engine: LocalEngine) -> None:
    async with aclosing(engine.complete(request(GUIDE, "Как запустить?", max_tokens=60))) as events:
        pieces = [event.text async for event in events if isinstance(event, Delta)]
    assert "".join(pieces).isprintable()
    assert any("а" <= letter <= "я" for letter in "".join(pieces))
    assert "\ufffd" not in "".join(pieces)


async def test_a_reply_that_reaches_its_bound_says_so(engine: LocalEngine) -> None:
    reply = await ask(engine, request(GUIDE, "How do I start it?", max_tokens=3))
    assert (reply.end.finish_reason, reply.end.usage.reply_tokens) == ("length", 3)


async def test_a_reply_that_ends_by_itself_says_so(engine: LocalEngine) -> None:
    reply = await ask(engine, request(GUIDE, "hi", max_tokens=200))
    assert reply.end.finish_reason == "stop"


async def test_a_reply_ends_where_the_context_does(engine: LocalEngine) -> None:
    whole = await ask(engine, request(GUIDE, "How do I start it?", max_tokens=200))
    assert (whole.end.usage.reply_tokens or 0) > 5
    cut = await ask(engine, request(GUIDE, "How do I start it?", max_tokens=200, context_length=whole.prompt + 5))
    assert (cut.end.finish_reason, cut.end.usage.reply_tokens) == ("length", 5)


async def test_a_prompt_that_leaves_no_room_is_refused_by_its_exact_size(engine: LocalEngine) -> None:
    size = (await ask(engine, request(GUIDE, "hi", max_tokens=1))).prompt
    with pytest.raises(PromptTooLong) as refused:
        await ask(engine, request(GUIDE, "hi", context_length=size))
    assert (refused.value.tokens, refused.value.limit) == (size, size)
    with pytest.raises(PromptTooLong) as refused:
        await ask(engine, request(GUIDE, LONG * 10, context_length=100_000))
    assert refused.value.limit == 4096  # the model's own


async def test_a_sampled_reply_is_bounded_too(engine: LocalEngine) -> None:
    reply = await ask(engine, request(GUIDE, "How do I start it?", temperature=1, max_tokens=8))
    assert 0 < (reply.end.usage.reply_tokens or 0) <= 8


async def test_tokens_are_counted_by_the_models_own_tokenizer_once_it_is_loaded(engine: LocalEngine) -> None:
    assert (await engine.count_tokens(GUIDE, "hello") or 0) > 0
    assert await engine.count_tokens(GUIDE, "") == 0
    assert await LocalEngine(GUIDE_DIR, []).count_tokens(GUIDE, "hello") is None


async def test_tokens_are_counted_while_a_reply_is_written(engine: LocalEngine) -> None:
    counts = set()
    async for _ in engine.complete(request(GUIDE, LONG)):
        counts.add(await engine.count_tokens(GUIDE, "hello there"))
    assert counts == {await engine.count_tokens(GUIDE, "hello there")}


async def seconds_to_leave(engine: LocalEngine, kind: type[Reading | Delta], text: str) -> float:
    """From closing a completion, at its third event of a kind, to the worker being free."""
    events = engine.complete(request(GUIDE, text, conversation=None, max_tokens=1000))
    seen = 0
    async for event in events:
        seen += isinstance(event, kind)
        if seen == 3:
            break
    began = time.monotonic()
    await events.aclose()
    return time.monotonic() - began


@pytest.mark.parametrize(("kind", "text"), [(Reading, LONG), (Delta, "How do I start it?")])
async def test_leaving_frees_the_worker_within_200_ms(
    engine: LocalEngine, kind: type[Reading | Delta], text: str
) -> None:
    # The figure is the machine's as well as ours: the median of some, so that another program's moment is none of it.
    assert median([await seconds_to_leave(engine, kind, text) for _ in range(5)]) < 0.2


@pytest.mark.parametrize("kind", [Reading, Delta])
async def test_leaving_costs_at_most_the_step_that_is_being_made(
    engine: LocalEngine, kind: type[Reading | Delta]
) -> None:
    steps: list[int] = []
    left = False
    with before_each_step(lambda: steps.append(1) if left else None):
        events = engine.complete(request(GUIDE, LONG, max_tokens=1000))
        async for event in events:
            if isinstance(event, kind):
                break
        left = True
        await events.aclose()
        # One may have begun before the worker could see that nobody reads any more, and one is its look at that.
        assert len(steps) <= 2
        steps.clear()
        await engine.load(GUIDE, 4096)  # through the worker, which is free
        assert steps == []


async def test_cancelling_the_task_that_reads_frees_the_worker(engine: LocalEngine) -> None:
    reading = asyncio.Event()

    async def read() -> None:
        async with aclosing(engine.complete(request(GUIDE, LONG, max_tokens=1000))) as events:
            async for _ in events:
                reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await ask(engine, request(GUIDE, "hi"))).text


async def test_who_waits_for_a_turn_may_leave_at_once(engine: LocalEngine) -> None:
    async with aclosing(engine.complete(request(GUIDE, LONG, max_tokens=1000))) as busy:
        await anext(busy)
        waiting = asyncio.create_task(ask(engine, request(GUIDE, "hi", conversation="other")))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert isinstance(await anext(busy), Reading | Delta)


async def test_a_reply_is_ended_when_the_server_stops() -> None:
    engine = LocalEngine(GUIDE_DIR, [], device="cpu")
    events = engine.complete(request(GUIDE, LONG, max_tokens=1000))
    await anext(events)  # loading
    await anext(events)  # reading
    await engine.close()
    with pytest.raises(EngineFailed, match="stopped"):
        async for _ in events:
            pass
