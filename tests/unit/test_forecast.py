"""How long it will take, as it is said beforehand and as it then turns out."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import pytest

from app.chat import Chat
from app.engines.base import Delta, GenerationOptions, Reading
from app.engines.catalog import Catalog
from app.engines.speed_file import SpeedFile
from app.engines.speeds import SpeedBook
from app.forecast import Request, Work, starts
from app.history import SessionHistory, StoredMessage
from app.prompting import ReplyOptions
from app.turn import ChatTurn, Waiting
from app.warmth import Held, Warmth
from tests.fakes.ollama import FakeOllama
from tests.unit.conftest import Connect

MODEL = "ollama/gemma2:2b"
# A machine that is nothing like what is taken for granted without knowing it.
PROMPT_SPEED, SPEED, LOAD_SECONDS = 900.0, 220.0, 0.6
WORDS = 110
NEAR = 0.25


def work(seconds: float, model: str = "m", loading: float = 0.0) -> Work:
    return Work(model, loading, 0.0, seconds)


def test_what_is_left_follows_the_phases() -> None:
    whole = Work("m", loading=2.0, reading=8.0, writing=10.0)
    assert whole.left(0.0) == 20.0
    assert whole.left(6.0) == 14.0
    assert whole.left(15.0) == 11.5  # it reads still
    assert whole.left(15.0, 0.0) == 10.0
    assert whole.left(19.0, 4.0) == 6.0
    assert whole.left(99.0, 80.0) == 8.0


@pytest.mark.parametrize(
    ("serving", "waiting", "slots", "expected"),
    [
        ([5.0], [work(3), work(4)], 1, [5.0, 8.0]),
        ([5.0, 1.0], [work(3), work(4), work(1)], 2, [1.0, 4.0, 5.0]),
        ([5.0], [work(3), work(4)], 2, [0.0, 3.0]),
        # There were three slots when those began.
        ([5.0, 1.0, 3.0], [work(2), work(4)], 1, [5.0, 7.0]),
        ([5.0, 1.0, 3.0], [work(2)], 2, [3.0]),
        ([5.0, None], [work(3)], 2, [None]),
        ([5.0], [work(3), None, work(4)], 1, [5.0, 8.0, None]),
        # The model is loaded once for those who want it one after the other.
        ([5.0], [work(3, "a", 2), work(4, "a", 2), work(1, "b", 2), work(1, "b")], 1, [5.0, 10.0, 14.0, 17.0]),
        ([], [], 1, []),
    ],
)
def test_the_slots_are_played_through(
    serving: list[float | None], waiting: list[Work | None], slots: int, expected: list[float | None]
) -> None:
    assert starts(serving, waiting, slots) == expected


@pytest.mark.parametrize(
    ("held", "tokens"),
    [(None, 0), (Held(300, 2), 300), (Held(300, 1), 0), (Held(500, 2), 380), (Held(900, 2), 380)],
)
def test_what_is_held_of_the_same_window_need_not_be_read_but_a_new_message_always(
    held: Held | None, tokens: int
) -> None:
    warmth = Warmth()
    if held is not None:
        warmth.used(MODEL, "c", held, None)
    request = Request(SpeedBook(), warmth, MODEL, "c", 2, "", 400, 20, 1024, loaded=False)
    assert request.held() == tokens
    assert request.work().reading == pytest.approx((400 - tokens) / 55)
    assert request.work().loading == (0.0 if held else 7.5)


# Against an engine


def chat_on(fake: FakeOllama, connect: Connect, speeds: SpeedBook) -> Chat:
    # Without a prompt cache: like the fake's, its slot holds the last conversation alone.
    return Chat(Catalog([connect(fake.url, speeds=speeds, cache_mib=0)]), speeds=speeds)


def ask(chat: Chat, history: SessionHistory, text: str) -> ChatTurn:
    number = len(history)
    options = ReplyOptions("gemma2:2b", generation=GenerationOptions(max_tokens=400))
    return chat.turn(history, StoredMessage(f"q{number}", text), f"a{number}", options)


async def timed(turn: ChatTurn) -> tuple[list[Waiting], float | None, dict[str, float]]:
    """What was said of the waiting, and of the reading when that began; and when each phase began, or all ended."""
    places: list[Waiting] = []
    said = None
    at = {"asked": time.monotonic()}
    async with aclosing(turn.events()) as events:
        async for event in events:
            if isinstance(event, Waiting):
                places.append(event)
            if isinstance(event, Reading):
                at.setdefault("reading", time.monotonic())
                said = event.seconds_left
            if isinstance(event, Delta):
                at.setdefault("writing", time.monotonic())
    at["ended"] = time.monotonic()
    return places, said, at


def question(tokens: int, number: int) -> str:
    return f"{number} " + "word " * tokens


async def learn(chat: Chat) -> SessionHistory:
    """Five replies, in a conversation that stays held, and in others beside it."""
    talk = SessionHistory("talk")
    for number in range(3):
        await timed(ask(chat, talk, question(100, number)))
    await timed(ask(chat, SessionHistory("other"), question(250, 8)))
    await timed(ask(chat, talk, question(100, 9)))
    return talk


async def check(chat: Chat, talk: SessionHistory) -> None:
    """Two conversations, new and held, one after the other in the only slot."""
    new = asyncio.create_task(timed(ask(chat, SessionHistory("new"), question(500, 1))))
    while not chat.serving:
        await asyncio.sleep(0)
    places, _, at = await timed(ask(chat, SessionHistory("newer"), question(400, 2)))
    await new
    # Waiting, as it was said first.
    assert places[0].seconds_left == pytest.approx(at["reading"] - at["asked"], rel=NEAR)
    # Then reading and writing, as the last one was expected to take them.
    engine = chat.catalog.engine_of(await chat.catalog.find("gemma2:2b"))
    window = 410
    expected = Request(
        chat.speeds, chat.warmth_of(engine), MODEL, "newest", 0, "", window, 400, 400, loaded=True
    ).work()
    assert expected.reading == pytest.approx(at["writing"] - at["reading"], rel=NEAR)
    assert expected.writing == pytest.approx(at["ended"] - at["writing"], rel=NEAR)
    # And of a conversation that is held only its new message is read.
    await timed(ask(chat, talk, question(100, 10)))
    _, said, at = await timed(ask(chat, talk, question(250, 11)))
    assert said == pytest.approx(at["writing"] - at["reading"], rel=NEAR)


async def test_after_five_replies_of_a_steady_engine_the_estimates_are_near_and_after_a_restart_too(
    connect: Connect, tmp_path: Path
) -> None:
    async with FakeOllama(prompt_speed=PROMPT_SPEED, speed=SPEED, load_seconds=LOAD_SECONDS, cache_tokens=0) as fake:
        fake.script(*[f"!words {WORDS}"] * 20)
        speeds = SpeedBook()
        chat = chat_on(fake, connect, speeds)
        talk = await learn(chat)
        found = speeds.of(MODEL)
        assert found.prompt == pytest.approx(PROMPT_SPEED, rel=0.1)
        assert found.generation == pytest.approx(SPEED, rel=0.1)
        assert found.load_seconds == pytest.approx(LOAD_SECONDS, rel=NEAR)
        assert found.reply_tokens == pytest.approx(WORDS, rel=0.1)
        await check(chat, talk)
        await SpeedFile(speeds, tmp_path).write()
        again = SpeedBook()
        SpeedFile(again, tmp_path).read()
        # The server was started anew, its engine was not: what that holds is known from the first reply on.
        chat = chat_on(fake, connect, again)
        await check(chat, SessionHistory("anew"))
