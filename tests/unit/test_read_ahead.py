"""Reading ahead, with a fake Ollama."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest

from app.chat import Chat
from app.engines.base import Delta, GenerationOptions
from app.engines.catalog import Catalog
from app.engines.ollama import OllamaEngine
from app.errors import EngineError
from app.history import SessionHistory, StoredMessage, Turn
from app.machine import MIB
from app.prompting import ReplyOptions
from app.reading import Reading
from app.sizing import KV_BYTES
from tests.fakes.engine import ScriptedEngine
from tests.fakes.models import FakeModel
from tests.fakes.ollama import FakeOllama
from tests.unit.conftest import Connect

MODEL: Final = "ollama/gemma2:2b"
OPTIONS: Final = ReplyOptions(MODEL, generation=GenerationOptions(max_tokens=256))
STEP: Final = 256
Make = Callable[..., Chat]


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(FakeModel("gemma2:2b"), FakeModel("phi3:latest"), speedup=math.inf) as fake:
        yield fake


@pytest.fixture
async def make(ollama: FakeOllama, connect: Connect) -> AsyncIterator[Make]:
    chats: list[Chat] = []

    def chat(*, on: bool = True, room: int | None = None, **options: Any) -> Chat:
        """`room`: of the prompt cache, in tokens."""
        if room is not None:
            ollama.cache_tokens = room
            options["cache_mib"] = math.ceil(room * KV_BYTES / MIB)
        engine: OllamaEngine = connect(ollama.url, **options)
        chats.append(Chat(Catalog([engine]), ahead_on=("ollama",) if on else (), ahead_step=STEP))
        return chats[-1]

    yield chat
    for each in chats:
        await each.ahead.close()


@pytest.fixture
async def chat(make: Make) -> Chat:
    """With its model in memory."""
    found = make()
    await ask(found, SessionHistory("first"), "!words 1")
    return found


def conversation(name: str, tokens: int, words: str = "word") -> SessionHistory:
    """An old conversation of turns of about 220 tokens."""
    turns = []
    for number in range(max(tokens // 220, 1)):
        texts = [f"{words} {number} " + " ".join(f"{words}{number}n{n}"[-6:] for n in range(98)) for _ in range(2)]
        said = [
            StoredMessage(f"{name}{number}{role}", text, {MODEL: 110}) for role, text in zip("qa", texts, strict=True)
        ]
        said[1].role = "assistant"
        turns.append(Turn(said[0], said[1]))
    return SessionHistory(name, turns)


async def ask(chat: Chat, history: SessionHistory, text: str, options: ReplyOptions = OPTIONS) -> int:
    """Send a message; returns the tokens of its prompt."""
    turn = chat.turn(history, StoredMessage(f"q{len(history)}", text), f"a{len(history)}", options)
    async for _ in turn.events():
        pass
    assert turn.metrics is not None
    return turn.metrics.prompt_tokens or 0


async def done(chat: Chat) -> None:
    """Wait until nothing is read ahead any more."""
    async with asyncio.timeout(10):
        while chat.ahead.reads:
            await asyncio.sleep(0.001)


async def begun(ollama: FakeOllama, requests: int = 1) -> None:
    """Wait until that many requests have come, and the last one is being read."""
    async with asyncio.timeout(10):
        while len(ollama.requests) < requests or not ollama.busy:
            await asyncio.sleep(0.001)


def sizes(ollama: FakeOllama) -> list[int]:
    """How many characters each request to the model had."""
    return [sum(len(message["content"]) for message in body["messages"]) for body in ollama.requests]


# What is read


async def test_an_old_conversation_is_read_before_its_next_message(chat: Chat, ollama: FakeOllama) -> None:
    history = conversation("old", 2000)
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    before = ollama.tokens_read
    assert await ask(chat, history, "!words 2") > 1900
    assert ollama.tokens_read - before < 20
    assert chat.ahead.tokens > 1900
    assert chat.ahead.seconds > 0


async def test_it_is_read_in_steps_of_which_each_begins_with_the_one_before(chat: Chat, ollama: FakeOllama) -> None:
    del ollama.requests[:]
    before = ollama.tokens_read
    chat.ahead.want("page", conversation("old", 2000), OPTIONS)
    await done(chat)
    assert 7 <= len(ollama.requests) <= 9
    assert sizes(ollama) == sorted(sizes(ollama))
    assert ollama.tokens_read - before < 1.1 * chat.ahead.tokens


async def test_its_requests_have_the_options_of_real_ones_and_ask_for_one_token(chat: Chat, ollama: FakeOllama) -> None:
    history = conversation("old", 500)
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    await ask(chat, history, "!words 2")
    ahead, real = ollama.requests[-2:]
    assert ahead["options"].pop("num_predict") == 1
    assert real["options"].pop("num_predict") == 256
    assert {**ahead, "messages": []} == {**real, "messages": []}
    assert ollama.loads == 1


async def test_a_long_message_is_read_in_several_steps(chat: Chat, ollama: FakeOllama) -> None:
    text = " ".join(f"{n}" for n in range(1500))
    question = StoredMessage("q", text, {MODEL: 1508})
    history = SessionHistory("long", [Turn(question, StoredMessage("a", "yes", {MODEL: 8}, "assistant"))])
    del ollama.requests[:]
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    assert len(ollama.requests) == 6
    assert all(text.startswith(body["messages"][0]["content"]) for body in ollama.requests)
    assert all(body["messages"][-1]["role"] == "user" for body in ollama.requests)


async def test_the_system_prompt_is_read_too(chat: Chat, ollama: FakeOllama) -> None:
    history, system = conversation("old", 500), "Be brief. " * 40
    options = ReplyOptions(MODEL, system, OPTIONS.generation)
    chat.ahead.want("page", history, options)
    await done(chat)
    before = ollama.tokens_read
    await ask(chat, history, "!words 2", options)
    assert ollama.tokens_read - before < 20


async def test_after_a_reply_nothing_is_read_while_the_next_turn_cuts_nothing(chat: Chat, ollama: FakeOllama) -> None:
    history = SessionHistory("short")
    for _ in range(3):
        await ask(chat, history, "!words 50")
        requests = len(ollama.requests)
        chat.ahead.want("page", history, OPTIONS)
        await done(chat)
        assert len(ollama.requests) == requests


async def full(chat: Chat, history: SessionHistory) -> None:
    """Talk until the next turn finds the window cut."""
    while True:
        await ask(chat, history, "!words 200")
        with history.next_question():
            pass
        engine = chat.catalog.engine_of((await chat.catalog.models())[0])
        model = await chat.catalog.find(MODEL)
        asked = await chat.prompting.ahead(engine, model, history, OPTIONS)
        if asked.prompt.window.first:
            return


@pytest.mark.parametrize("moves", [True, False])
async def test_a_shortened_window_is_read_as_soon_as_the_reply_before_has_ended(
    make: Make, ollama: FakeOllama, moves: bool
) -> None:
    ollama.cache_reuse = 32 if moves else 0
    chat, history = make(moves_cache=moves), SessionHistory("long")
    await full(chat, history)
    requests, before = len(ollama.requests), ollama.tokens_read
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    assert len(ollama.requests) - requests == (1 if moves else pytest.approx(7, abs=2))
    read = ollama.tokens_read - before
    assert read < 100 if moves else read > 1000
    before = ollama.tokens_read
    await ask(chat, history, "!words 2")
    assert ollama.tokens_read - before < 20


async def test_in_steps_where_another_visitor_has_had_the_slot_since(make: Make, ollama: FakeOllama) -> None:
    ollama.cache_reuse = 32
    chat, history = make(moves_cache=True), SessionHistory("long")
    await full(chat, history)
    await ask(chat, SessionHistory("another"), "!words 5")
    requests = len(ollama.requests)
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    assert len(ollama.requests) - requests > 4


async def test_nothing_is_read_twice(chat: Chat, ollama: FakeOllama) -> None:
    history = conversation("old", 1000)
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    requests = len(ollama.requests)
    for page in ("page", "another page of it"):
        chat.ahead.want(page, history, OPTIONS)
        await done(chat)
    assert len(ollama.requests) == requests


async def test_another_system_prompt_is_read_anew(chat: Chat, ollama: FakeOllama) -> None:
    history = conversation("old", 1000)
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    requests = len(ollama.requests)
    chat.ahead.want("page", history, ReplyOptions(MODEL, "Be brief.", OPTIONS.generation))
    await done(chat)
    assert len(ollama.requests) > requests + 2


# Who comes first


async def test_a_message_is_first_and_nothing_of_it_is_lost(chat: Chat, ollama: FakeOllama) -> None:
    ollama.speedup = 100
    chat.ahead.want("page", conversation("old", 2000), OPTIONS)
    await begun(ollama, len(ollama.requests) + 2)
    other = SessionHistory("other")
    turn = chat.turn(other, StoredMessage("q", "!words 7"), "a", OPTIONS)
    events = [event async for event in turn.events()]
    assert turn.text == "the quick brown fox jumps over a"
    assert events
    assert [body["messages"][-1]["content"] for body in ollama.requests if body["options"].get("num_predict", 0) > 1][
        -1:
    ] == ["!words 7"]
    assert turn.metrics is not None
    # At most one batch of 64 tokens at 55 tokens a second, and the message itself.
    assert (turn.metrics.first_token_seconds or 0) * 100 < 64 / 55 + 10
    assert ollama.cancelled == 1


async def test_no_two_of_its_requests_and_a_message_are_in_the_engine_at_once(chat: Chat, ollama: FakeOllama) -> None:
    ollama.speedup = 200
    for n in range(5):
        chat.ahead.want(f"page {n}", conversation(f"old {n}", 2000), OPTIONS)
        await begun(ollama)
        await ask(chat, SessionHistory(f"other {n}"), "!words 2")
        assert ollama.waiting == 0


async def test_it_goes_on_where_it_was_when_the_engine_is_idle_again(chat: Chat, ollama: FakeOllama) -> None:
    history = conversation("old", 2000)
    ollama.speedup = 100
    chat.ahead.want("page", history, OPTIONS)
    await begun(ollama, len(ollama.requests) + 4)
    seen = len(ollama.requests)
    await ask(chat, SessionHistory("other"), "!words 2")
    ollama.speedup = math.inf
    await done(chat)
    again = [body for body in ollama.requests[seen:] if body["options"]["num_predict"] == 1]
    assert sum(len(message["content"]) for message in again[0]["messages"]) >= sizes(ollama)[seen - 1] - 8
    before = ollama.tokens_read
    await ask(chat, history, "!words 2")
    assert ollama.tokens_read - before < 20


async def test_while_somebody_is_served_nothing_is_read(chat: Chat, ollama: FakeOllama) -> None:
    model = await chat.catalog.find(MODEL)
    ticket = chat.queue_of(chat.catalog.engine_of(model)).join()
    requests = len(ollama.requests)
    chat.ahead.want("page", conversation("old", 1000), OPTIONS)
    await done(chat)
    assert len(ollama.requests) == requests
    ticket.leave()
    await done(chat)
    assert len(ollama.requests) > requests


# What is no more worth it


@pytest.mark.parametrize("how", ["page gone", "deleted", "edited", "settings"])
async def test_it_ends_when_it_is_no_more_of_use(chat: Chat, ollama: FakeOllama, how: str) -> None:
    ollama.speedup = 100
    history = conversation("old", 3000)
    chat.ahead.want("page", history, OPTIONS)
    seen = len(ollama.requests)
    await begun(ollama, seen + 2)
    if how == "page gone":
        chat.ahead.forget("page")
    elif how == "deleted":
        chat.ahead.forget_conversation("old")
    elif how == "edited":
        history.ask(StoredMessage("old3q", "edited"))
    else:
        chat.ahead.want("page", conversation("short", 10), OPTIONS)
    await done(chat)
    assert len(ollama.requests) - seen <= 4
    await ollama.idle.wait()
    assert not chat.ahead._wishes


async def test_a_page_that_is_gone_before_it_is_known_what_to_read_has_nothing_read(
    chat: Chat, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, planned, planning = asyncio.Event(), Reading.planned, asyncio.Event()

    async def slow(*arguments: Any) -> Reading | None:
        planning.set()
        await go_on.wait()
        return await planned(*arguments)

    monkeypatch.setattr(Reading, "planned", slow)
    requests = len(ollama.requests)
    chat.ahead.want("page", conversation("old", 1000), OPTIONS)
    await planning.wait()
    chat.ahead.forget("page")
    go_on.set()
    await done(chat)
    assert len(ollama.requests) == requests


async def test_given_up_twice_at_once_it_still_closes_its_connection(chat: Chat, ollama: FakeOllama) -> None:
    ollama.speedup = 100
    chat.ahead.want("page", conversation("old", 2000), OPTIONS)
    await begun(ollama, len(ollama.requests) + 2)
    task = chat.ahead._task
    assert task is not None
    for _ in range(3):
        chat.ahead.yield_to("ollama")
    assert task.cancelling() == 1
    await chat.ahead.cleared("ollama")
    assert task.cancelled()
    await ollama.idle.wait()


async def test_a_storm_of_opened_conversations_leaves_the_last_one_of_each_page(make: Make, ollama: FakeOllama) -> None:
    chat = make()
    await ask(chat, SessionHistory("first"), "!words 1")
    ollama.speedup = 1000
    for n in range(300):
        chat.ahead.want(f"page {n % 3}", conversation(f"old {n}", 500, f"c{n}"), OPTIONS)
        if n % 10 == 0:
            await asyncio.sleep(0)
    ollama.speedup = math.inf
    await done(chat)
    assert not chat.ahead._wishes
    before = ollama.tokens_read
    for n in (297, 298, 299):
        await ask(chat, conversation(f"old {n}", 500, f"c{n}"), "!words 1")
    assert ollama.tokens_read - before < 60
    assert ollama.busy == ollama.waiting == 0


async def test_no_more_wishes_are_kept_than_there_is_sense_in(chat: Chat) -> None:
    model = await chat.catalog.find(MODEL)
    ticket = chat.queue_of(chat.catalog.engine_of(model)).join()
    for n in range(1000):
        chat.ahead.want(n, conversation(f"old {n}", 10), OPTIONS)
    assert len(chat.ahead._wishes) == 200
    chat.ahead._wishes.clear()
    ticket.leave()


# What the cache holds


@pytest.mark.parametrize(("room", "reads"), [(1500, True), (600, False), (0, False)])
async def test_nothing_is_read_that_would_push_out_a_conversation_in_use(
    make: Make, ollama: FakeOllama, room: int, reads: bool
) -> None:
    chat = make(room=room)
    used = conversation("used", 400, "u")
    await ask(chat, used, "!words 2")
    requests, before = len(ollama.requests), ollama.tokens_read
    chat.ahead.want("page", conversation("old", 500), OPTIONS)
    await done(chat)
    assert (len(ollama.requests) > requests) is reads
    before = ollama.tokens_read
    await ask(chat, used, "!words 2")
    assert ollama.tokens_read - before < 40


async def test_one_that_was_not_used_for_long_may_go(make: Make, ollama: FakeOllama) -> None:
    now = 1000.0
    chat = make(room=600)
    chat.clock = lambda: now
    await ask(chat, conversation("used", 400, "u"), "!words 2")
    requests = len(ollama.requests)
    now += 601
    chat.ahead.want("page", conversation("old", 500), OPTIONS)
    await done(chat)
    assert len(ollama.requests) > requests


async def test_what_found_no_room_is_read_as_soon_as_there_is_some(
    make: Make, ollama: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.read_ahead._LOOK_AGAIN", 0.01)
    now = 1000.0
    chat = make(room=600)
    chat.clock = lambda: now
    await ask(chat, conversation("used", 400, "u"), "!words 2")
    requests = len(ollama.requests)
    chat.ahead.want("page", conversation("old", 500), OPTIONS)
    await done(chat)
    assert len(ollama.requests) == requests
    now += 601
    async with asyncio.timeout(10):
        while chat.ahead._wishes:
            await asyncio.sleep(0.001)
    assert len(ollama.requests) > requests


# Models


async def test_no_model_is_loaded_for_it(make: Make, ollama: FakeOllama) -> None:
    chat = make()
    chat.ahead.want("page", conversation("old", 500), OPTIONS)
    await done(chat)
    assert (ollama.loads, ollama.requests) == (0, [])


async def test_but_the_default_model_may_be(make: Make, ollama: FakeOllama) -> None:
    chat = make()
    chat.ahead.want("page", conversation("old", 500), OPTIONS, may_load=True)
    await done(chat)
    assert ollama.loads == 1
    assert chat.ahead.tokens > 400


async def test_unless_another_one_is_in_memory(make: Make, ollama: FakeOllama) -> None:
    chat = make()
    await ask(chat, SessionHistory("other"), "!words 1", ReplyOptions("ollama/phi3:latest"))
    await chat.catalog.models(fresh=True)
    chat.ahead.want("page", conversation("old", 500), OPTIONS, may_load=True)
    await done(chat)
    assert ollama.loads == 1


async def test_nothing_is_read_where_a_model_is_unloaded_after_each_reply(make: Make, ollama: FakeOllama) -> None:
    chat = make(keep_alive="0")
    await ask(chat, SessionHistory("other"), "!words 1")
    requests = len(ollama.requests)
    chat.ahead.want("page", conversation("old", 500), OPTIONS)
    await done(chat)
    assert len(ollama.requests) == requests


async def test_nothing_is_read_where_it_is_off(make: Make, ollama: FakeOllama) -> None:
    chat = make(on=False)
    await ask(chat, SessionHistory("other"), "!words 1")
    requests = len(ollama.requests)
    chat.ahead.want("page", conversation("old", 500), OPTIONS)
    await done(chat)
    assert len(ollama.requests) == requests


async def test_an_engine_that_keeps_nothing_is_never_asked() -> None:
    engine = ScriptedEngine()
    chat = Chat(Catalog([engine]), ahead_on=("ollama",))
    chat.ahead.want("page", conversation("old", 500), OPTIONS)
    await done(chat)
    assert engine.requests == []


async def test_what_a_stopped_reply_has_written_is_not_read_again(chat: Chat, ollama: FakeOllama) -> None:
    history = SessionHistory("stopped")
    ollama.speedup = 40
    events = chat.turn(history, StoredMessage("q", "!words 400"), "a", OPTIONS).events()
    count = 0
    async for event in events:
        count += isinstance(event, Delta)
        if count == 150:
            break
    await events.aclose()
    requests = len(ollama.requests)
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    assert len(ollama.requests) == requests


@pytest.mark.parametrize("how", ["!die", "unloaded"])
async def test_a_model_that_was_not_in_memory_in_between_holds_nothing(
    chat: Chat, ollama: FakeOllama, how: str
) -> None:
    history = conversation("old", 500)
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    if how == "unloaded":
        ollama.unload()
        chat.catalog.engine_of(await chat.catalog.find(MODEL))._memory._seen_at = -math.inf  # type: ignore[attr-defined]
        await ask(chat, SessionHistory("other"), "!words 1")
    else:
        with pytest.raises(EngineError):
            await ask(chat, SessionHistory("other"), "!die")
        await ask(chat, SessionHistory("other"), "!words 1")
    requests = len(ollama.requests)
    chat.ahead.want("page", history, OPTIONS)
    await done(chat)
    assert len(ollama.requests) > requests


# Troubles


async def test_a_model_that_is_gone_is_no_trouble(chat: Chat, ollama: FakeOllama, caplog: Any) -> None:
    for n in range(3):
        chat.ahead.want(n, conversation("old", 500), ReplyOptions("ollama/nosuch:1b"))
        await done(chat)
    assert [record.message for record in caplog.records].count(
        "CHAT nothing could be read ahead (model_not_found)"
    ) == 1


async def test_while_there_is_no_model_yet_nothing_is_wished(chat: Chat, caplog: Any) -> None:
    chat.ahead.want("page", conversation("old", 500), ReplyOptions(""))
    assert not chat.ahead.reads
    assert caplog.records == []


async def test_an_engine_that_dies_is_told_once_and_the_chat_goes_on(
    chat: Chat, ollama: FakeOllama, caplog: Any
) -> None:
    await ollama.go_away()
    for n in range(3):
        chat.ahead.want(n, conversation(f"old {n}", 500), OPTIONS)
        await done(chat)
    assert len([record for record in caplog.records if record.name == "app.read_ahead"]) == 1
    await ollama.come_back()
    assert await ask(chat, SessionHistory("other"), "!words 2")


async def test_an_engine_that_dies_in_the_middle_is_no_trouble(chat: Chat, ollama: FakeOllama) -> None:
    ollama.speedup = 100
    history = conversation("old", 2000)
    chat.ahead.want("page", history, OPTIONS)
    await begun(ollama, len(ollama.requests) + 2)
    await ollama.go_away()
    await done(chat)
    await ollama.come_back()
    ollama.speedup = math.inf
    assert await ask(chat, history, "!words 2") > 1900


async def test_the_end_of_the_server_ends_it(chat: Chat, ollama: FakeOllama) -> None:
    ollama.speedup = 10
    chat.ahead.want("page", conversation("old", 2000), OPTIONS)
    await begun(ollama)
    await chat.ahead.close()
    assert chat.ahead._task is not None
    assert chat.ahead._task.done()
    await ollama.idle.wait()
    chat.stopping = True
    chat.ahead.want("page", conversation("old", 2000), OPTIONS)
    assert chat.ahead._task.done()


# What is told of it


async def test_it_is_no_reply(make: Make, ollama: FakeOllama) -> None:
    chat, ended = make(), []
    chat.on_end = ended.append
    chat.ahead.want("page", conversation("old", 500), OPTIONS, may_load=True)
    await done(chat)
    assert ollama.requests
    assert ended == []
    assert chat.serving == 0


async def test_the_log_has_one_line_of_it_and_nothing_of_whom(chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    caplog.clear()
    chat.ahead.want("page", conversation("secret-name", 1000), OPTIONS)
    await done(chat)
    (line,) = [record.message for record in caplog.records if "read ahead" in record.message]
    assert line.startswith("CHAT ollama/gemma2:2b read ahead ")
    assert line.endswith(" s, 3 steps")
    assert "secret" not in line


async def test_the_speed_is_learned_from_what_was_surely_read(make: Make, ollama: FakeOllama) -> None:
    ollama.prompt_speed = 30
    chat = make()
    chat.ahead.want("page", conversation("old", 2000), OPTIONS, may_load=True)
    await done(chat)
    assert chat.speeds.of(MODEL).prompt == pytest.approx(30, rel=0.1)
