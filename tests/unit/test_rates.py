"""How often somebody may ask: counted in this process or in a real Redis, refused with the exact time to wait."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable

import pytest
from limits import parse_many
from pydantic import SecretStr

from app.account_errors import TooManyTries
from app.api.problems import problem_of
from app.asker import Asker
from app.chat import Chat
from app.engines.catalog import Catalog
from app.errors import ChatError, TooManyFromNetwork, TooManyRequests
from app.forward import forward_many
from app.history import SessionHistory, StoredMessage
from app.prompting import ReplyOptions
from app.rates import Rates
from app.tries import Tries
from app.windows import Windows, WindowsUnusable
from tests.fakes.engine import ScriptedEngine
from tests.redis import PASSWORD, Redis
from tests.unit.test_forward import TogetherEngine, raw_engine

ANN = Asker("page", "v-ann", address="192.0.2.1")
NOBODY = Asker("v1", None, address="192.0.2.9")
Make = Callable[[str], Rates]


@pytest.fixture(params=["memory", "redis"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Makes limits that are counted in each of the places; those of one test count together."""
    url = SecretStr(request.getfixturevalue("redis").url) if request.param == "redis" else None
    windows = Windows(url)
    yield lambda limit: Rates(parse_many(limit), windows)
    await windows.close()


async def refusal(rates: Rates, asker: Asker) -> TooManyRequests | None:
    try:
        await rates.count(asker)
    except TooManyRequests as problem:
        return problem
    return None


async def allowed(rates: Rates, *askers: Asker) -> int:
    """How many of them may ask before the first who may not."""
    for number, asker in enumerate(askers):
        if await refusal(rates, asker) is not None:
            return number
    return len(askers)


async def test_without_a_limit_anybody_may_ask_any_number() -> None:
    assert await allowed(Rates(), *[ANN] * 1000) == 1000


async def test_each_has_a_count_of_its_own(make: Make) -> None:
    rates = make("3/minute")
    key = Asker("v1", "school", address=ANN.address)
    assert await allowed(rates, *[ANN] * 4) == 3
    assert await allowed(rates, *[key] * 4) == 3
    assert await allowed(rates, *[NOBODY] * 4) == 3
    assert await allowed(rates, Asker("api", None, address="192.0.2.10")) == 1


async def test_it_does_not_help_to_ask_by_another_way(make: Make) -> None:
    rates = make("2/minute")
    assert await allowed(rates, ANN, Asker("api", "v-ann", address="192.0.2.2"), Asker("v1", "v-ann")) == 2


async def test_who_drops_the_cookie_each_time_has_ten_times_as_many(make: Make) -> None:
    rates = make("2/minute")
    assert await allowed(rates, *(Asker("page", f"v-{n}", address="192.0.2.1") for n in range(40))) == 20
    problem = await refusal(rates, Asker("page", "v-new", address="192.0.2.1"))
    assert isinstance(problem, TooManyFromNetwork)
    assert problem.sentence("en").startswith("20 messages came from your network in the last minute. Try again in ")
    assert await allowed(rates, Asker("page", "v-new", address="192.0.2.2")) == 1


async def test_addresses_of_one_network_of_ipv6_are_one(make: Make) -> None:
    rates = make("2/minute")
    assert await allowed(rates, *(Asker("v1", None, address=f"2001:db8::{n:x}") for n in range(4))) == 2


async def test_of_several_limits_each_counts_and_what_one_refuses_takes_nothing_of_another(make: Make) -> None:
    rates = make("2/minute;5/day")
    assert await allowed(rates, *[ANN] * 9) == 2
    assert [await refusal(rates, ANN) is None for _ in range(9)] == [False] * 9
    # Had they counted, the day's five would be used up.
    assert await allowed(make("5/day"), *[ANN] * 6) == 3
    problem = await refusal(make("5/day"), ANN)
    assert problem is not None
    assert problem.seconds > 86_000


async def test_the_time_to_wait_is_exact(make: Make) -> None:
    rates = make("2/2seconds")
    assert await allowed(rates, ANN, ANN) == 2
    problem = await refusal(rates, ANN)
    assert problem is not None
    assert problem.seconds in (1, 2)
    assert problem_of(problem, "en").retry_after == problem.seconds
    assert problem_of(problem, "en").status == 429
    began = time.monotonic()
    while await refusal(rates, ANN) is not None:
        assert time.monotonic() - began < problem.seconds + 0.5
    assert time.monotonic() - began > problem.seconds - 1


@pytest.mark.parametrize(
    ("facts", "english", "russian"),
    [
        (
            (20, 60, 12),
            "You have sent 20 messages in the last minute. Try again in 12 seconds.",
            "Сообщений от вас за 1 мин: 20, больше пока нельзя. Повторите через 12 с.",
        ),
        (
            (1, 1, 1),
            "You have sent 1 message in the last second. Try again in 1 second.",
            "Сообщений от вас за 1 с: 1, больше пока нельзя. Повторите через 1 с.",
        ),
        (
            (5000, 43_200, 4001),
            "You have sent 5,000 messages in the last 12 hours. Try again in 67 minutes.",
            "Сообщений от вас за 12 ч: 5,000, больше пока нельзя. Повторите через 67 мин.",
        ),
    ],
)
def test_the_refusal_says_how_many_there_were_and_when_to_come_again(
    facts: tuple[int, int, int], english: str, russian: str
) -> None:
    problem = TooManyRequests(count=facts[0], period=facts[1], seconds=facts[2])
    assert (problem.sentence("en"), problem.sentence("ru")) == (english, russian)


# Where replies begin


def chat_with(*engines: ScriptedEngine, limit: str = "1/minute", fallback: str = "") -> Chat:
    return Chat(Catalog(list(engines)), rates=Rates(parse_many(limit)), fallback_model=fallback)


async def said(chat: Chat, history: SessionHistory, question: str, message_id: str) -> str:
    turn = chat.turn(history, StoredMessage(message_id, question), f"a-{message_id}", OPTIONS, asker=ANN)
    try:
        async for _ in turn.events():
            pass
    except ChatError as problem:
        return problem.code
    return turn.text


OPTIONS = ReplyOptions("gemma2:2b")


async def test_a_reply_beyond_the_limit_reaches_no_engine_and_no_fallback() -> None:
    engine = ScriptedEngine("one", "two")
    chat = chat_with(engine, fallback="gemma2:2b")
    history = SessionHistory("c")
    assert await said(chat, history, "first", "1") == "one"
    assert await said(chat, history, "second", "2") == "rate_limit_exceeded"
    assert len(engine.requests) == 1
    # It stands there and can be asked again.
    assert history.last is not None
    assert history.last.question.text == "second"


async def test_an_edit_beyond_the_limit_changes_nothing() -> None:
    chat = chat_with(ScriptedEngine("one", "two"), limit="1/minute")
    history = SessionHistory("c")
    await said(chat, history, "first", "1")
    assert await said(chat, history, "changed", "1") == "rate_limit_exceeded"
    assert history.last is not None
    assert history.last.answer is not None
    assert (history.last.question.text, history.last.answer.text) == ("first", "one")


@pytest.mark.parametrize("engine", [raw_engine("a", "b", "c", slots=2), TogetherEngine()], ids=["each", "together"])
async def test_each_prompt_of_a_batch_counts(engine: ScriptedEngine) -> None:
    chat = chat_with(engine, limit="2/minute")
    engine.go_on.set()
    results = await forward_many(chat, ["a", "b", "c"], OPTIONS, ANN)
    assert [result.error and result.error.code for result in results] == [None, None, "rate_limit_exceeded"]
    with pytest.raises(TooManyRequests):
        await forward_many(chat, ["d"], OPTIONS, ANN)


async def test_vectors_count_as_one_reply() -> None:
    engine = ScriptedEngine()
    engine.embeds = True
    chat = chat_with(engine)
    await chat.embed("gemma2:2b", ["a", "b", "c"], asker=ANN)
    with pytest.raises(TooManyRequests):
        await chat.embed("gemma2:2b", ["d"], asker=ANN)


# Redis


async def test_several_processes_count_together_in_redis(redis: Redis) -> None:
    one, other = Windows(SecretStr(redis.url)), Windows(SecretStr(redis.url))
    limits = parse_many("3/minute")
    assert await allowed(Rates(limits, one), ANN, ANN) == 2
    assert await allowed(Rates(limits, other), ANN, ANN) == 1
    await one.close()
    await other.close()


async def test_while_redis_is_away_everybody_may_ask_and_the_log_says_so_once(
    redis: Redis, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.windows._LEFT_ALONE", 0.0)
    windows = Windows(SecretStr(redis.url))
    rates = Rates(parse_many("1/minute"), windows)
    assert await allowed(rates, ANN, ANN) == 1
    redis.stop()
    with caplog.at_level("INFO"):
        assert await allowed(rates, *[ANN] * 5) == 5
        redis.start()
        assert await allowed(rates, ANN, ANN) == 1
    assert [record.message for record in caplog.records] == [
        "HEALTH RATE_LIMIT_STORAGE is away: ConnectionError",
        "HEALTH RATE_LIMIT_STORAGE is back",
    ]
    assert PASSWORD not in caplog.text
    await windows.close()


async def test_tries_of_passwords_are_counted_here_while_redis_is_away(redis: Redis) -> None:
    windows = Windows(SecretStr(redis.url))
    tries = Tries(3, 300, windows)
    await tries.count("192.0.2.1", "ann")
    redis.stop()
    for _ in range(3):
        await tries.count("192.0.2.1", "ann")
    with pytest.raises(TooManyTries):
        await tries.count("192.0.2.1", "ann")
    redis.start()
    await windows.close()


async def test_tries_are_counted_for_several_processes_together(redis: Redis) -> None:
    one, other = Windows(SecretStr(redis.url)), Windows(SecretStr(redis.url))
    await Tries(2, 300, one).count("192.0.2.1", "ann")
    await Tries(2, 300, other).count("192.0.2.1", "ann")
    with pytest.raises(TooManyTries):
        await Tries(2, 300, one).count("192.0.2.1", "ann")
    await one.close()
    await other.close()


def test_a_missing_package_is_named_with_the_way_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis.asyncio.retry", None)
    with pytest.raises(WindowsUnusable, match=r"pip install redis==7\.4\.1"):
        Windows(SecretStr("redis://:hunter2@127.0.0.1:6379"))


@pytest.mark.parametrize("url", ["redis://:hunter2@127.0.0.1:port", "redis://:hunter2@127.0.0.1:6379?hunter2=1"])
def test_an_address_that_is_none_is_refused_at_once_without_its_password(url: str) -> None:
    with pytest.raises(WindowsUnusable, match=r"It takes redis://:password@host:6379$") as refused:
        Windows(SecretStr(url))
    assert "hunter2" not in str(refused.value)


def test_the_version_that_is_named_is_the_one_of_the_requirements() -> None:
    from app.settings import ROOT

    assert "redis==7.4.1" in (ROOT / "requirements.txt").read_text().splitlines()
