"""The fake Ollama's caches against what was measured of the real one (gemma2:2b's shape, two threads)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from statistics import median
from typing import Any, Final

import httpx
import pytest

from tests.fakes.ollama import FakeOllama, count_tokens

Turns = Sequence[int]

# How far the fake's figures may be from the measured ones. A single turn's may be further away: that each request takes
# the real one some tenths of a second more is not modelled.
TOLERANCE: Final = 0.15
OF_ONE_TURN: Final = 0.25
# Tokens a MiB, at the measured 104 KiB a token.
IN_A_MIB: Final = 1024 / 104
ROOM: Final = 1024 - 100


def words(number: int, tokens: int) -> str:
    """A text of that many tokens, another for each number."""
    return " ".join(f"w{(number * 7919 + n) % 99991}" for n in range(tokens))


class Talker:
    """Sends conversations whose texts are given, and tells the seconds that their prompts took.

    As measured: the answers are given too, so that a turn's prompt has the whole of the turn before it to read.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def seconds(self, texts: Sequence[str]) -> float:
        messages = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts)]
        options = {"num_ctx": 1024, "num_batch": 64, "num_predict": 1}
        body: dict[str, Any] = {"model": "gemma2:2b", "messages": messages, "stream": False, "options": options}
        answer = await self._client.post("/api/chat", json=body)
        return float(answer.json()["prompt_eval_duration"]) / 1e9


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(speedup=math.inf) as fake:
        yield fake


@pytest.fixture
async def talker(ollama: FakeOllama) -> AsyncIterator[Talker]:
    async with httpx.AsyncClient(base_url=ollama.url, trust_env=False, timeout=20) as client:
        yield Talker(client)


@pytest.mark.parametrize(
    ("mib", "least", "most"),
    [(8192, 1.2, 1.4), (0, 13.5, 14.5), (100, 13.5, 14.5)],
    ids=["the default", "no cache", "too small for both"],
)
async def test_two_visitors_take_turns(ollama: FakeOllama, talker: Talker, mib: int, least: float, most: float) -> None:
    ollama.cache_tokens = int(mib * IN_A_MIB)
    visitors = [[words(n, 700)] for n in (1, 2)]
    took = []
    for turn in range(4):
        for n, texts in enumerate(visitors):
            took.append(await talker.seconds(texts))
            texts += [words(100 + turn, 12), words(1000 * turn + n, 40)]
    assert least * (1 - TOLERANCE) <= median(took[2:]) <= most * (1 + TOLERANCE)


def sliding(turns: Turns) -> int:
    """The first turn of a window that loses the oldest turn whenever it is full."""
    first = 0
    while sum(turns[first:]) > ROOM:
        first += 1
    return first


def block(turns: Turns) -> int:
    """The same of one that loses half."""
    first = 0
    for last in range(1, len(turns) + 1):
        if sum(turns[first:last]) > ROOM:
            while sum(turns[first:last]) > ROOM / 2:
                first += 1
    return first


@pytest.mark.parametrize(
    ("window", "reuse", "total", "middle", "longest"),
    [
        (sliding, 0, 344, 15.3, None),
        (block, 0, 79, 2.15, 7.0),
        (block, 32, 64, 2.15, 2.5),
        (sliding, 32, None, 2.4, None),
    ],
)
async def test_a_chat_that_is_longer_than_the_context(
    ollama: FakeOllama,
    talker: Talker,
    window: Callable[[Turns], int],
    reuse: int,
    total: float | None,
    middle: float,
    longest: float | None,
) -> None:
    """30 turns of 108 tokens at a context of 1,024."""
    ollama.cache_reuse = reuse
    texts: list[str] = []
    turns: list[int] = []
    took = []
    for number in range(30):
        texts.append(words(number, 46))
        turns.append(108)
        took.append(await talker.seconds(texts[2 * window(turns) :]))
        texts.append(words(5000 + number, 46))
    if total is not None:
        assert sum(took) == pytest.approx(total, rel=TOLERANCE)
    assert median(took[14:]) == pytest.approx(middle, rel=OF_ONE_TURN)
    if longest is not None:
        assert max(took[1:]) == pytest.approx(longest, rel=OF_ONE_TURN)


def test_a_turn_of_the_chat_has_as_many_tokens_as_the_measured_one() -> None:
    turn = [{"role": "user", "content": words(1, 46)}, {"role": "assistant", "content": words(2, 46)}]
    last = {"role": "user", "content": "x"}
    assert count_tokens([*turn, last]) - count_tokens([last]) == pytest.approx(108, abs=4)
