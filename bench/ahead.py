"""Reading ahead and the window: what they spare a visitor, on a fake Ollama with the real one's measured speeds.

The fake's clock runs faster; the times that are told are those of the true speed. Its slot and its prompt cache are
held against the measured ones by tests/unit/test_fake_ollama_caches.py.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import httpx

from app.chat import Chat
from app.engines.base import GenerationOptions
from app.engines.catalog import Catalog
from app.engines.ollama import OllamaEngine
from app.history import SessionHistory, StoredMessage, Turn
from app.prompting import ReplyOptions
from bench.figures import Figure
from tests.fakes.ollama import FakeOllama, count_tokens

_MODEL: Final = "ollama/gemma2:2b"
_OPTIONS: Final = ReplyOptions(_MODEL, generation=GenerationOptions(max_tokens=1024))
_CONTEXT: Final = 4096
# In which the whole of the old conversation is read.
_ROOMY: Final = 8192
# What the app leaves for a conversation of it: a quarter is kept for the reply.
_ROOM: Final = _CONTEXT - _CONTEXT // 4
_CACHE_MIB: Final = 1391  # as in a container with 4 GB
_REUSE: Final = 32
_TURNS: Final = 60
_OLD: Final = 3000
_QUESTION, _ANSWER = 40, 110  # words
_numbers = itertools.count(10_000)


@dataclass(frozen=True, slots=True)
class _Server:
    """A machine.

    Attributes:
        prompt, generation: tokens a second.
        opened, cut: seconds of silence after an old conversation was opened, and before a turn at a cut.
        speedup: of the clock.
    """

    name: str
    prompt: float
    generation: float
    opened: float
    cut: float
    speedup: float


# The slow one reads no more than 2,340 tokens in 90 s, whoever does it: it gets more silence.
_SERVERS: Final = (_Server("2 cores", 55, 17.8, 90, 60, 12), _Server("slow server", 26, 6, 150, 90, 20))


class _Site:
    """Our app's chat in front of a fake Ollama."""

    def __init__(self, server: _Server, fake: FakeOllama, chat: Chat) -> None:
        self.fake = fake
        self._server = server
        self._chat = chat

    async def ask(self, history: SessionHistory, words: int = _ANSWER) -> float:
        """Send a message as visitors do; returns the seconds to its first token."""
        text = _text(_QUESTION)
        self.fake.script(f"!words {words}")
        turn = self._chat.turn(history, StoredMessage(f"q{next(_numbers)}", text), f"a{next(_numbers)}", _OPTIONS)
        async for _ in turn.events():
            pass
        first = turn.metrics.first_token_seconds if turn.metrics is not None else None
        return math.inf if first is None else first

    @contextmanager
    def in_no_time(self) -> Iterator[None]:
        """What is done within is not measured."""
        speedup, self.fake.speedup = self.fake.speedup, math.inf
        yield
        self.fake.speedup = speedup

    def shown(self, history: SessionHistory) -> None:
        """A page shows a conversation that has come so far."""
        self._chat.ahead.want(history, history, _OPTIONS)

    async def silence(self, seconds: float) -> None:
        """Nobody says anything; not longer than there is something to read."""
        end = time.monotonic() + seconds / self._server.speedup
        while (self.fake.busy or self._chat.ahead.reads) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def cuts(self, history: SessionHistory) -> bool:
        """Whether the next turn finds more of its oldest messages gone than the last one."""
        model = await self._chat.catalog.find(_MODEL)
        engine = self._chat.catalog.engine_of(model)
        asked = await self._chat.prompting.ahead(engine, model, history, _OPTIONS)
        return asked.prompt.window.first > history.seen_left_out


@asynccontextmanager
async def _site(
    server: _Server, *, ahead: bool = True, reuse: bool = True, context: int = _CONTEXT, writes: bool = True
) -> AsyncIterator[_Site]:
    """`writes`: replies take their time; where that does not matter it is left out."""
    async with FakeOllama(
        prompt_speed=server.prompt,
        speed=server.generation if writes else math.inf,
        speedup=server.speedup,
        cache_tokens=_CACHE_MIB * 1024 // 104,
        cache_reuse=_REUSE if reuse else 0,
    ) as fake:
        engine = OllamaEngine(fake.url, cache_mib=_CACHE_MIB, moves_cache=reuse)
        on = ("ollama",) if ahead else ()
        clock = _faster(server.speedup)
        chat = Chat(Catalog([engine], num_ctx=context, max_age=3600), ahead_on=on, clock=clock)
        site = _Site(server, fake, chat)
        try:
            await engine.load("gemma2:2b", context)
            await site.ask(SessionHistory("the first"), 1)
            yield site
        finally:
            await chat.ahead.close()
            await engine.close()


def _faster(times: float) -> Callable[[], float]:
    return lambda: times * time.monotonic()


def _text(words: int) -> str:
    """A text that nobody has said before; the fake counts a token for each word."""
    return " ".join(f"w{next(_numbers):05d}"[-6:] for _ in range(words))


def _old() -> SessionHistory:
    turns: list[Turn] = []
    tokens = 0
    while tokens < _OLD:
        said = [StoredMessage(f"m{next(_numbers)}", _text(words)) for words in (_QUESTION, _ANSWER)]
        for message in said:
            message.tokens[_MODEL] = len(message.text.split()) + 6
            tokens += message.tokens[_MODEL]
        said[1].role = "assistant"
        turns.append(Turn(said[0], said[1]))
    return SessionHistory(f"old {next(_numbers)}", turns)


# An old conversation


async def _opened(server: _Server) -> Figure:
    took = []
    for ahead in (True, False):
        async with _site(server, ahead=ahead, context=_ROOMY) as site:
            history = _old()
            site.shown(history)
            await site.silence(server.opened)
            took.append(await site.ask(history, 1))
    what = f"{server.name}: first token in an old conversation of {_OLD:,} tokens, opened {server.opened:g} s before"
    value = f"{took[0]:.1f} s, without reading ahead {took[1]:.1f} s"
    return Figure(what, value, "at most 1/5", took[0] <= took[1] / 5)


# A turn at a cut


async def _at_a_cut(server: _Server, *, reuse: bool, another: bool) -> Figure:
    """`another`: a visitor whose message was waiting as the reply ended."""
    async with _site(server, reuse=reuse) as site:
        history, normal = _old(), []
        with site.in_no_time():
            await site.ask(history, 20)
        while not await site.cuts(history):
            normal.append(await site.ask(history, 20))
        if another:
            reply = asyncio.create_task(site.ask(SessionHistory("another"), 20))
            await asyncio.sleep(0)
        site.shown(history)
        if another:
            await reply
        await site.silence(server.cut)
        took = await site.ask(history, 20)
    usual = median(normal)
    how = "with cache reuse" if reuse else "without cache reuse"
    how += ", another visitor had the slot in between" if another else ""
    value = f"{took / usual:.2f} times ({took:.1f} s, normally {usual:.1f} s)"
    what = f"{server.name}: first token of the turn at a window cut, {server.cut:g} s after the reply before, {how}"
    return Figure(what, value, "at most 1.5 times", took <= 1.5 * usual)


# A long chat


def _sliding(messages: Sequence[dict[str, str]]) -> Sequence[dict[str, str]]:
    """The newest messages that have room."""
    kept = list(messages)
    while count_tokens(kept) > _ROOM:
        del kept[:2]
    return kept


async def _read_by(window: Callable[[Sequence[dict[str, str]]], Sequence[dict[str, str]]]) -> int:
    """Tokens of prompts that Ollama, as it comes, reads in the long chat with another window."""
    async with FakeOllama(speedup=math.inf) as fake, httpx.AsyncClient(base_url=fake.url, trust_env=False) as client:
        messages: list[dict[str, str]] = []
        for _ in range(_TURNS):
            messages.append({"role": "user", "content": _text(_QUESTION)})
            fake.script(f"!words {_ANSWER}")
            options = {"num_ctx": _CONTEXT, "num_batch": 64}
            body: dict[str, Any] = {"model": "gemma2:2b", "stream": False, "options": options}
            answer = await client.post("/api/chat", json=body | {"messages": list(window(messages))}, timeout=60)
            messages.append({"role": "assistant", "content": answer.json()["message"]["content"]})
        return fake.tokens_read


async def _long_chat(server: _Server, *, reuse: bool, sliding: int, everything: int) -> list[Figure]:
    async with _site(server, reuse=reuse, writes=False) as site:
        history, took = SessionHistory("long"), []
        before = site.fake.tokens_read
        for _ in range(_TURNS):
            took.append(await site.ask(history))
            site.shown(history)
            await site.silence(server.cut)
        read = site.fake.tokens_read - before
    early, late = median(took[4:15]), took[29:]
    part = 5 if reuse else 4
    chat = (
        f"{server.name}: a chat of {_TURNS} turns at {_CONTEXT:,} tokens, {'with' if reuse else 'without'} cache reuse"
    )
    times = f"{median(late) / early:.2f} and {max(late) / early:.2f} times ({median(late):.1f} and {max(late):.1f} s)"
    steady = median(late) <= 1.2 * early and max(late) <= 2 * early
    value = f"{read:,}; sliding window {sliding:,}, everything sent {everything:,}"
    return [
        Figure(f"{chat}: tokens read", value, f"at most 1/{part} of the sliding window's", read <= sliding / part),
        Figure(
            f"{chat}: first token at turns 30 to 60, median and longest, over turns 5 to 15",
            times,
            "at most 1.2 and 2 times",
            steady,
        ),
    ]


async def _all() -> list[Figure]:
    figures = []
    sliding, everything = await _read_by(_sliding), await _read_by(lambda messages: messages)
    for server in _SERVERS:
        figures.append(await _opened(server))
        for reuse, another in ((True, False), (True, True), (False, False)):
            figures.append(await _at_a_cut(server, reuse=reuse, another=another))
        for reuse in (True, False):
            figures += await _long_chat(server, reuse=reuse, sliding=sliding, everything=everything)
    return figures


def measure() -> list[Figure]:
    """Old conversations, turns at a cut, and a long chat, on two machines."""
    return asyncio.run(_all())
