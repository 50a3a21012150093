"""Our app's chat in front of a fake Ollama with a machine's speeds, for benches.

The fake's clock runs faster; the times that are told are those of the true speed. Its slot and its prompt cache are
held against the measured ones by tests/unit/test_fake_ollama_caches.py.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from app.chat import Chat
from app.engines.base import GenerationOptions
from app.engines.catalog import Catalog
from app.engines.ollama import OllamaEngine
from app.history import SessionHistory, StoredMessage
from app.machine import MIB, Machine
from app.prompting import ReplyOptions
from app.sizing import plan
from tests.fakes.ollama import FakeOllama

MODEL: Final = "ollama/gemma2:2b"
_OPTIONS: Final = ReplyOptions(MODEL, generation=GenerationOptions(max_tokens=1024))
CONTEXT: Final = 4096
# In a container with 4 GB.
_CACHE_MIB: Final = plan(Machine(4096 * MIB, 2)).cache_ram
_REUSE: Final = 32
QUESTION, ANSWER = 40, 110  # words
numbers = itertools.count(10_000)


@dataclass(frozen=True, slots=True)
class Server:
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


class Site:
    """Our app's chat in front of a fake Ollama."""

    def __init__(self, server: Server, fake: FakeOllama, chat: Chat) -> None:
        self.fake = fake
        self._server = server
        self._chat = chat

    async def ask(self, history: SessionHistory, words: int = ANSWER) -> float:
        """Send a message as visitors do; returns the seconds to its first token."""
        text = new_text(QUESTION)
        self.fake.script(f"!words {words}")
        turn = self._chat.turn(history, StoredMessage(f"q{next(numbers)}", text), f"a{next(numbers)}", _OPTIONS)
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
        model = await self._chat.catalog.find(MODEL)
        engine = self._chat.catalog.engine_of(model)
        asked = await self._chat.prompting.ahead(engine, model, history, _OPTIONS)
        return asked.prompt.window.first > history.seen_left_out


@asynccontextmanager
async def fake_site(
    server: Server, *, ahead: bool = True, reuse: bool = True, context: int = CONTEXT, writes: bool = True
) -> AsyncIterator[Site]:
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
        site = Site(server, fake, chat)
        try:
            await engine.load("gemma2:2b", context)
            await site.ask(SessionHistory("the first"), 1)
            yield site
        finally:
            await chat.ahead.close()
            await engine.close()


def _faster(times: float) -> Callable[[], float]:
    return lambda: times * time.monotonic()


def new_text(words: int) -> str:
    """A text that nobody has said before; the fake counts a token for each word."""
    return " ".join(f"w{next(numbers):05d}"[-6:] for _ in range(words))
