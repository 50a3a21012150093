"""What programs send, made turns: the window, the sizes that are remembered, the name of a conversation, the end."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from app.api.problems import language_of, problem_of
from app.api.programs import Defaults, Programs, SentMessage, Sizes
from app.api.relay import ClientLeft, Relay, while_there
from app.asker import Asker
from app.chat import Chat
from app.engines.base import Delta, GenerationOptions
from app.engines.catalog import Catalog
from app.errors import Busy, EmptyMessage, EngineUnreachable, MessageTooLarge, Stopping, Unsupported
from app.prompting import ReplyOptions
from tests.fakes.engine import ScriptedEngine

MODEL = "ollama/gemma2:2b"
ASKER = Asker("v1")


def programs(engine: ScriptedEngine) -> Programs:
    return Programs(Chat(Catalog([engine], max_age=3600)), Defaults(0.2, 0.9, 64), comment_seconds=1)


async def reply(asked: Programs, *messages: SentMessage) -> Relay:
    turn = asked.turn(messages, model=MODEL, generation=GenerationOptions(max_tokens=64), asker=ASKER)
    relay = asked.start(turn)
    while not relay.ended:
        await relay.take()
    await relay.close()
    return relay


async def test_what_was_counted_once_counts_the_same_when_it_is_sent_again() -> None:
    engine = ScriptedEngine("one two three", "four")
    asked = programs(engine)
    question = SentMessage("user", "a question of some words")
    first = await reply(asked, question)
    assert first.turn.question.tokens[MODEL] > 0
    second = asked.turn(
        [question, SentMessage("assistant", "one two three"), SentMessage("user", "and now")],
        model=MODEL,
        generation=GenerationOptions(),
        asker=ASKER,
    )
    [turn, _] = list(second._history)
    assert turn.question.tokens == first.turn.question.tokens
    assert turn.answer is not None
    assert turn.answer.tokens == {MODEL: 3}


async def test_a_conversation_has_one_name_and_another_system_prompt_makes_another() -> None:
    engine = ScriptedEngine()
    asked = programs(engine)
    system, first = SentMessage("system", "Be short."), SentMessage("user", "hello")
    await reply(asked, system, first)
    await reply(asked, system, first, SentMessage("assistant", "yes indeed"), SentMessage("user", "more"))
    await reply(asked, first)
    names = [request.conversation for request in engine.requests]
    assert names[0] == names[1] != names[2]
    assert [message.role for message in engine.requests[1].messages] == ["system", "user", "assistant", "user"]


async def test_texts_are_made_readable_and_too_large_ones_refused() -> None:
    engine = ScriptedEngine()
    asked = programs(engine)
    await reply(asked, SentMessage("system", "be\0"), SentMessage("user", "half \ud83d"))
    assert [message.content for message in engine.requests[0].messages] == ["be", "half \ufffd"]
    for size, error in ((0, EmptyMessage), (300_000, MessageTooLarge)):
        messages = [SentMessage("user", "x" * size)] if size else []
        with pytest.raises(error):
            asked.turn(messages, model=MODEL, generation=GenerationOptions(), asker=ASKER)


def test_sizes_are_forgotten_from_the_oldest_on() -> None:
    sizes = Sizes(most=2)
    one, two, three = (SentMessage("user", text) for text in ("one", "two", "three"))
    sizes.of(one)[MODEL] = 1
    sizes.of(two)[MODEL] = 2
    sizes.of(one)
    sizes.of(three)
    assert (len(sizes), sizes.of(one), sizes.of(two)) == (2, {MODEL: 1}, {})


async def test_the_end_of_the_server_lets_replies_finish_and_then_stops_them() -> None:
    engine = ScriptedEngine("soon done", "never done")
    asked = programs(engine)
    engine.go_on.clear()
    finishing = asyncio.create_task(reply(asked, SentMessage("user", "hi")))
    while not engine.requests:
        await asyncio.sleep(0)
    ending = asyncio.create_task(asked.wind_up(60))
    await asyncio.sleep(0)
    engine.go_on.set()
    assert (await finishing).problem is None
    await ending
    engine.go_on.clear()
    stopping = asyncio.create_task(reply(asked, SentMessage("user", "hi")))
    while len(engine.requests) < 2:
        await asyncio.sleep(0)
    await asked.wind_up(0)
    assert isinstance((await stopping).problem, Stopping)
    assert engine.closed == 2


async def test_a_client_that_leaves_ends_the_turn_and_what_came_together_is_taken_together() -> None:
    engine = ScriptedEngine("one two three")
    asked = programs(engine)
    relay = asked.start(
        asked.turn([SentMessage("user", "hi")], model=MODEL, generation=GenerationOptions(), asker=ASKER)
    )
    deltas: list[Delta] = []
    while not relay.ended:
        deltas += [event for event in await relay.take() if isinstance(event, Delta)]
    assert "".join(delta.text for delta in deltas) == "one two three"
    engine.go_on.clear()
    relay = asked.start(
        asked.turn([SentMessage("user", "hi")], model=MODEL, generation=GenerationOptions(), asker=ASKER)
    )
    while len(engine.requests) < 2:
        await asyncio.sleep(0)
    relay.leave()
    with pytest.raises(ClientLeft):
        await relay.take()
    await relay.close()
    assert engine.closed == 2


async def test_the_end_of_the_server_is_the_same_for_a_batch() -> None:
    engine = ScriptedEngine("soon done")
    engine.features = frozenset({"raw"})
    asked = programs(engine)
    options = ReplyOptions(MODEL, generation=GenerationOptions(max_tokens=64))

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    engine.go_on.clear()
    finishing = asyncio.create_task(asked.forward(["hi"], options, ASKER, receive))
    while not engine.requests:
        await asyncio.sleep(0)
    ending = asyncio.create_task(asked.wind_up(60))
    await asyncio.sleep(0)
    assert not ending.done()
    engine.go_on.set()
    assert [result.text for result in await finishing] == ["soon done"]
    await ending
    engine.go_on.clear()
    stopping = asyncio.create_task(asked.forward(["hi"], options, ASKER, receive))
    while len(engine.requests) < 2:
        await asyncio.sleep(0)
    await asked.wind_up(0)
    with pytest.raises(Stopping):
        await stopping
    assert engine.closed == 2


async def test_work_ends_when_its_client_leaves() -> None:
    gone = asyncio.Event()
    ended = []

    async def receive() -> dict[str, str]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def work() -> None:
        try:
            gone.set()
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    with pytest.raises(ClientLeft):
        await while_there(receive, work())  # type: ignore[arg-type]
    assert ended == [True]


def test_errors_have_statuses_and_names_that_programs_know() -> None:
    busy = problem_of(Busy(waiting=3), "en")
    assert (busy.status, busy.headers) == (429, {"Retry-After": "5"})
    away = problem_of(EngineUnreachable(engine="Ollama", url="http://x"), "en")
    assert (away.status, away.code, away.retry_after) == (503, "engine_unreachable", 30)
    schema = problem_of(Unsupported(parameter="json_schema", model="m", engine="Ollama"), "en")
    assert (schema.status, schema.parameter) == (400, "response_format")


@pytest.mark.parametrize(
    ("accept", "language"),
    [(None, "en"), ("", "en"), ("*", "en"), ("ru", "ru"), ("de, ru-RU;q=0.8, en;q=0.7", "ru"), ("en-US,ru", "en")],
)
def test_the_language_of_errors(accept: str | None, language: str) -> None:
    assert language_of(accept) == language
