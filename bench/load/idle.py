"""What a thousand open pages on which nothing happens cost the server, and the one visitor who asks."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

import httpx
import psutil

from bench.figures import Figure
from bench.load.attempt import Attempt
from bench.load.crowd import client
from bench.load.page import Page
from bench.load.plan import Plan
from bench.load.queues import cpu_seconds
from tests.site import Program, fake_ollama, server

_PAGES: Final = 1000
_TOGETHER: Final = 10  # pages that open at the same time
_REPLIES: Final = 15
_MOST_BYTES: Final = 300e6
_MOST_DELAY: Final = 0.050


def measure(folder: Path) -> list[Figure]:
    """Memory, and delays of the active visitor."""
    with fake_ollama(folder, "--load-seconds", "0") as ollama, server(folder, OLLAMA_HOST=ollama.url) as site:
        return asyncio.run(_measure(site))


async def _measure(site: Program) -> list[Figure]:
    plan = Plan(site.url, ways=("page",))
    async with client() as http, AsyncExitStack() as stack:
        active = await _opened(Page(plan, http, ""), stack)
        await _replies(active, 2)  # everything is loaded now
        alone = await _replies(active, _REPLIES)
        before = memory(site)
        await _open_many(plan, http, stack)
        taken = memory(site) - before
        gc.freeze()  # a thousand sockets here, to be looked through: that delay would be this process' own
        cpu, began = cpu_seconds(site), time.perf_counter()
        among = await _replies(active, _REPLIES)
        share = (cpu_seconds(site) - cpu) / (time.perf_counter() - began)
    return [
        Figure(f"{_PAGES:,} open idle pages: memory", f"{taken / 1e6:.0f} MB", "under 300 MB", taken < _MOST_BYTES),
        _delay("first token", [_first(one) for one in alone], [_first(one) for one in among]),
        _delay("between tokens", _gaps(alone), _gaps(among)),
        Figure(f"{_PAGES:,} open idle pages: the app's CPU with one active", f"{share:.1%} of a core", "none", None),
    ]


def memory(site: Program) -> int:
    """Resident memory of the server with all its processes, in bytes."""
    main = psutil.Process(site.process.pid)
    return sum(int(process.memory_info().rss) for process in (main, *main.children(recursive=True)))


async def _opened(page: Page, stack: AsyncExitStack) -> Page:
    await page.open()
    stack.push_async_callback(page.close)
    return page


async def _open_many(plan: Plan, http: httpx.AsyncClient, stack: AsyncExitStack) -> None:
    """Each by a browser of its own."""
    places = asyncio.Semaphore(_TOGETHER)

    async def one() -> None:
        async with places:
            await _opened(Page(plan, http, ""), stack)

    await asyncio.gather(*(one() for _ in range(_PAGES)))
    await asyncio.sleep(2)  # what each was told last has been sent


async def _replies(page: Page, number: int) -> list[Attempt]:
    """So many replies, one after another, each in a conversation of its own."""
    attempts = []
    for turn in range(number):
        await page.begin_anew()
        attempt = Attempt(0, turn, "page", "!words 20", time.perf_counter)
        attempt.sent_at = time.perf_counter()
        await page.ask(attempt)
        if attempt.outcome != "replied":
            raise RuntimeError(f"no reply: {attempt.problem}")
        attempts.append(attempt)
    return attempts


def _first(attempt: Attempt) -> float:
    return attempt.first_token or 0.0


def _gaps(attempts: Sequence[Attempt]) -> list[float]:
    return [gap for attempt in attempts for gap in attempt.gaps]


def _delay(what: str, alone: Sequence[float], among: Sequence[float]) -> Figure:
    """How much longer it takes: in the median, and the longest of all against the longest."""
    usual, longest = median(among) - median(alone), max(among) - max(alone)
    words = f"{1e3 * usual:+.0f} ms, longest {1e3 * longest:+.0f} ms"
    name = f"{_PAGES:,} open idle pages: the active one's delay, {what}"
    return Figure(name, words, "under 50 ms", max(usual, longest) < _MOST_DELAY)
