"""Reading ahead and the window: what they spare a visitor, on a fake Ollama with the real one's measured speeds.

The clock runs 12 times faster for the server of two cores (55 tokens a second read, 17.8 written), 20 times for a slow
one (26 and 6); the times are those of the true speed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Final

import httpx

from app.history import SessionHistory, StoredMessage, Turn
from bench.fake_site import ANSWER, CONTEXT, MODEL, QUESTION, Server, fake_site, new_text, numbers
from bench.figures import Figure
from tests.fakes.ollama import FakeOllama, count_tokens

# In which the whole of the old conversation is read.
_ROOMY: Final = 8192
# What the app leaves for a conversation of it: a quarter is kept for the reply.
_ROOM: Final = CONTEXT - CONTEXT // 4
_TURNS: Final = 60
_OLD: Final = 3000
# The slow one reads no more than 2,340 tokens in 90 s, whoever does it: it gets more silence.
_SERVERS: Final = (Server("2 cores", 55, 17.8, 90, 60, 12), Server("slow server", 26, 6, 150, 90, 20))


def _old() -> SessionHistory:
    turns: list[Turn] = []
    tokens = 0
    while tokens < _OLD:
        said = [StoredMessage(f"m{next(numbers)}", new_text(words)) for words in (QUESTION, ANSWER)]
        for message in said:
            message.tokens[MODEL] = len(message.text.split()) + 6
            tokens += message.tokens[MODEL]
        said[1].role = "assistant"
        turns.append(Turn(said[0], said[1]))
    return SessionHistory(f"old {next(numbers)}", turns)


# An old conversation


async def _opened(server: Server) -> Figure:
    took = []
    for ahead in (True, False):
        async with fake_site(server, ahead=ahead, context=_ROOMY) as site:
            history = _old()
            site.shown(history)
            await site.silence(server.opened)
            took.append(await site.ask(history, 1))
    what = f"{server.name}: first token in an old conversation of {_OLD:,} tokens, opened {server.opened:g} s before"
    value = f"{took[0]:.1f} s, without reading ahead {took[1]:.1f} s"
    return Figure(what, value, "at most 1/5", took[0] <= took[1] / 5)


# A turn at a cut


async def _at_a_cut(server: Server, *, reuse: bool, another: bool) -> Figure:
    """`another`: a visitor whose message was waiting as the reply ended."""
    async with fake_site(server, reuse=reuse) as site:
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
            messages.append({"role": "user", "content": new_text(QUESTION)})
            fake.script(f"!words {ANSWER}")
            options = {"num_ctx": CONTEXT, "num_batch": 64}
            body: dict[str, Any] = {"model": "gemma2:2b", "stream": False, "options": options}
            answer = await client.post("/api/chat", json=body | {"messages": list(window(messages))}, timeout=60)
            messages.append({"role": "assistant", "content": answer.json()["message"]["content"]})
        return fake.tokens_read


async def _long_chat(server: Server, *, reuse: bool, sliding: int, everything: int) -> list[Figure]:
    async with fake_site(server, reuse=reuse, writes=False) as site:
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
        f"{server.name}: a chat of {_TURNS} turns at {CONTEXT:,} tokens, {'with' if reuse else 'without'} cache reuse"
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
