"""What programs ask of the transformers engine beyond a chat: ends, seeds, penalties, raw text, batches."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engines.base import BatchEngine, ChatMessage, Completion, CompletionRequest, GenerationOptions, ToolCall
from app.engines.local import LocalEngine
from app.engines.local_sampling import Penalties, seeded
from app.errors import EngineError, EngineFailed, OutOfMemory, PromptTooLong, Unsupported
from app.settings import GUIDE_DIR
from tests.fakes.tiny_model import THINKING, make_tiny_model
from tests.local import ask, before_each_step, request

torch = pytest.importorskip("torch", reason="torch is not installed (make install-local)")
pytest.importorskip("transformers", reason="transformers is not installed (make install-local)")

GUIDE = "guide"
START = "How do I start it?"
PROMPTS = (
    "How do I",
    "The settings of this program are kept in",
    "Run",
    "Чтобы запустить программу,",
    "a",
    "Ollama is",
)


@pytest.fixture
async def engine() -> AsyncIterator[LocalEngine]:
    engine = LocalEngine(GUIDE_DIR, [], device="cpu")
    await engine.load(GUIDE, 4096)
    yield engine
    await engine.close()


def raw(text: str, **options: object) -> CompletionRequest:
    return request(GUIDE, text, conversation=None, raw=True, **options)  # type: ignore[arg-type]


# Where a reply ends


async def test_a_reply_ends_before_a_stop_text_wherever_it_falls_on_tokens(engine: LocalEngine) -> None:
    whole = (await ask(engine, request(GUIDE, START))).text
    for begin in range(0, len(whole) - 5, 7):
        stop = whole[begin : begin + 5]
        reply = await ask(engine, request(GUIDE, START, stop=("no such text", stop)))
        assert (reply.text, reply.end.finish_reason) == (whole[: whole.index(stop)], "stop")


async def test_nothing_is_written_after_a_stop_text(engine: LocalEngine) -> None:
    whole = await ask(engine, request(GUIDE, START, max_tokens=60))
    stop = whole.text[:12]
    reply = await ask(engine, request(GUIDE, START, max_tokens=60, stop=(stop[6:],)))
    assert 0 < (reply.end.usage.reply_tokens or 0) < (whole.end.usage.reply_tokens or 0) / 2


async def test_text_that_only_began_like_a_stop_text_is_not_lost(engine: LocalEngine) -> None:
    whole = (await ask(engine, request(GUIDE, START, max_tokens=6))).text
    reply = await ask(engine, request(GUIDE, START, max_tokens=6, stop=(whole[-3:] + "no such",)))
    assert (reply.text, reply.end.finish_reason) == (whole, "length")


async def test_a_conversation_goes_on_rightly_after_a_stop_text(engine: LocalEngine) -> None:
    whole = (await ask(engine, request(GUIDE, START, conversation=None))).text
    said = (await ask(engine, request(GUIDE, START, stop=(whole[10:14],)))).text
    kept = await ask(engine, request(GUIDE, START, said, "and then?"))
    anew = await ask(engine, request(GUIDE, START, said, "and then?", conversation=None))
    assert kept.text == anew.text
    assert kept.cached > 0


# How it is sampled


async def test_a_seed_gives_the_same_reply_again_and_another_seed_another(engine: LocalEngine) -> None:
    async def said(seed: int) -> str:
        asked = request(GUIDE, START, conversation=None, temperature=2.0, top_p=1.0, seed=seed)
        return (await ask(engine, asked)).text

    one, again, other = await said(1), await said(1), await said(2)
    assert one == again != other
    assert await said(-(2**63)) == await said(-(2**63))


def test_a_seed_does_not_disturb_what_others_draw() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3).tolist()
    torch.manual_seed(0)
    with seeded(7, "cpu"):
        first = torch.rand(3).tolist()
    assert torch.rand(3).tolist() == expected
    with seeded(7, "cpu"):
        assert torch.rand(3).tolist() == first


@given(
    said=st.lists(st.integers(0, 4), max_size=8),
    presence=st.sampled_from([-2.0, 0.0, 0.5]),
    frequency=st.sampled_from([-1.0, 0.0, 2.0]),
)
def test_penalties_are_openais_and_of_the_reply_alone(said: list[int], presence: float, frequency: float) -> None:
    options = GenerationOptions(presence_penalty=presence, frequency_penalty=frequency)
    prompt = [4, 4, 4]
    scores = Penalties(options, len(prompt))(torch.tensor([prompt + said]), torch.zeros(1, 5))
    counts = Counter(said)
    expected = [-frequency * counts[token] - presence * (token in counts) for token in range(5)]
    assert scores[0].tolist() == pytest.approx(expected)


async def test_penalties_make_a_reply_repeat_itself_less(tmp_path: Path) -> None:
    # Of random weights: the guide is so sure of its answers that no penalty changes them.
    engine = LocalEngine(make_tiny_model(tmp_path), [], device="cpu")
    plain = (await ask(engine, raw("port port", max_tokens=60))).text
    varied = (await ask(engine, raw("port port", max_tokens=60, frequency_penalty=2.0))).text
    await engine.close()
    assert len(set(varied)) > len(set(plain))


# What is read


async def test_a_message_of_the_assistant_at_the_end_is_gone_on_with(engine: LocalEngine) -> None:
    whole = (await ask(engine, request(GUIDE, START))).text
    begun = " ".join(whole.split(" ")[:3])
    reply = await ask(engine, request(GUIDE, START, begun))
    assert (begun + reply.text).startswith(whole)


async def test_raw_text_is_read_without_the_template(engine: LocalEngine) -> None:
    reply = await ask(engine, raw("How do I"))
    assert reply.text
    assert reply.prompt == await engine.count_tokens(GUIDE, "How do I")


async def test_reasoning_is_not_looked_for_in_raw_text(tmp_path: Path) -> None:
    engine = LocalEngine(make_tiny_model(tmp_path, template=THINKING), [], device="cpu")
    reply = await ask(engine, raw("1 + 1 = <think>"))
    assert (bool(reply.text), reply.reasoning) == (True, "")
    await engine.close()


async def test_functions_in_a_conversation_are_refused_not_left_out(engine: LocalEngine) -> None:
    asked = request(GUIDE, START)
    call = ChatMessage("assistant", "", (ToolCall("1", "f", "{}"),))
    told = ChatMessage("tool", "22", tool_call_id="1")
    with pytest.raises(Unsupported) as refused:
        await ask(engine, replace(asked, messages=(*asked.messages, call, told)))
    assert refused.value.facts["parameter"] == "tools"
    with pytest.raises(Unsupported):
        await engine.embed(GUIDE, ["hi"], 4096)


# Batches


def done_of(result: Completion | EngineError) -> Completion:
    assert isinstance(result, Completion)
    return result


async def test_a_batch_gives_what_each_prompt_alone_gives_in_their_order(engine: LocalEngine) -> None:
    assert isinstance(engine, BatchEngine)
    asked = [raw(prompt, max_tokens=24) for prompt in PROMPTS]
    alone = [await ask(engine, one) for one in asked]
    together = [done_of(result) for result in await engine.complete_batch(asked)]
    assert [one.text for one in together] == [one.text for one in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.done.finish_reason == other.end.finish_reason
        assert one.done.usage.prompt_tokens == other.prompt
        assert one.done.usage.reply_tokens == other.end.usage.reply_tokens
        assert one.done.usage.generation_seconds > 0


async def test_long_and_short_prompts_in_one_batch_do_not_mix(engine: LocalEngine) -> None:
    asked = [raw(prompt, max_tokens=12) for prompt in ("Run", "what is the port and how do I change it " * 20, "a")]
    alone = [(await ask(engine, one)).text for one in asked]
    assert [done_of(result).text for result in await engine.complete_batch(asked)] == alone


async def test_each_prompt_of_a_batch_ends_where_it_should(engine: LocalEngine) -> None:
    asked = [raw(prompt, max_tokens=24) for prompt in PROMPTS[:3]]
    whole = [done_of(result).text for result in await engine.complete_batch(asked)]
    stop = (whole[0][8:12],)
    ended = [
        done_of(one) for one in await engine.complete_batch([raw(p, max_tokens=24, stop=stop) for p in PROMPTS[:3]])
    ]
    assert [one.text for one in ended] == [text.partition(stop[0])[0] for text in whole]
    assert ended[0].done.finish_reason == "stop"


async def test_what_is_wrong_with_one_prompt_does_not_fail_the_others(engine: LocalEngine) -> None:
    asked = [replace(raw(prompt, max_tokens=8), context_length=64) for prompt in ("Run", "word " * 500, "a")]
    first, second, third = await engine.complete_batch(asked)
    assert isinstance(second, PromptTooLong)
    assert second.limit == 64
    assert done_of(first).text
    assert done_of(third).text


async def test_a_reply_in_a_batch_ends_where_its_own_context_does(engine: LocalEngine) -> None:
    turn = "<|user|>{}<|end|><|assistant|>"
    prompts = [turn.format(question) for question in ("how do i start the chat", "who are you")]
    sizes = [await engine.count_tokens(GUIDE, prompt) or 0 for prompt in prompts]
    asked = [replace(raw(prompt, max_tokens=24), context_length=max(sizes) + 4) for prompt in prompts]
    results = [done_of(result).done for result in await engine.complete_batch(asked)]
    assert [done.usage.reply_tokens for done in results] == [max(sizes) + 4 - size for size in sizes]
    assert {done.finish_reason for done in results} == {"length"}


async def test_a_seed_gives_the_same_batch_again(engine: LocalEngine) -> None:
    asked = [raw(prompt, max_tokens=12, temperature=2.0, top_p=1.0, seed=5) for prompt in PROMPTS[:3]]
    one, again = [[done_of(result).text for result in await engine.complete_batch(asked)] for _ in range(2)]
    assert one == again


async def test_memory_that_runs_out_fails_the_prompts_it_ran_out_for(engine: LocalEngine) -> None:
    steps = 0

    def fail() -> None:
        nonlocal steps
        steps += 1
        if steps == 1:
            raise RuntimeError("not enough memory: you tried to allocate 9 GB")

    with before_each_step(fail):
        results = await engine.complete_batch([raw(prompt, max_tokens=4) for prompt in PROMPTS])
    assert [type(result) for result in results] == [OutOfMemory] * len(PROMPTS)
    (after,) = await engine.complete_batch([raw("Run", max_tokens=4)])
    assert done_of(after).text


async def test_leaving_a_batch_frees_the_worker(engine: LocalEngine) -> None:
    steps: list[int] = []
    working = asyncio.Event()
    loop = asyncio.get_running_loop()

    def step() -> None:
        steps.append(1)
        loop.call_soon_threadsafe(working.set)

    with before_each_step(step):
        task = asyncio.create_task(engine.complete_batch([raw(prompt, max_tokens=2000) for prompt in PROMPTS]))
        await working.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        made = len(steps)
        await engine.load(GUIDE, 4096)
    assert len(steps) == made
    assert made < 500


async def test_a_batch_is_ended_when_the_server_stops() -> None:
    engine = LocalEngine(GUIDE_DIR, [], device="cpu")
    await engine.load(GUIDE, 4096)
    working = asyncio.Event()
    loop = asyncio.get_running_loop()
    with before_each_step(lambda: loop.call_soon_threadsafe(working.set)):
        task = asyncio.create_task(engine.complete_batch([raw(prompt, max_tokens=4000) for prompt in PROMPTS]))
        await working.wait()
        await engine.close()
        with pytest.raises(EngineFailed, match="stopped"):
            await task
