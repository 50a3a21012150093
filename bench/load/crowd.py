"""All visitors of a plan, each at his own pace."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Protocol

import httpx

from bench.load import page, v1
from bench.load.attempt import Attempt
from bench.load.plan import LoadError, Plan


class Visitor(Protocol):
    """One who asks, whichever way."""

    async def open(self) -> None: ...

    async def begin_anew(self) -> None: ...

    async def ask(self, attempt: Attempt) -> None: ...

    async def close(self) -> None: ...


class Crowd:
    """The visitors.

    Args:
        plan: what they do.

    Attributes:
        attempts: their requests so far, in the order of their sending.
        seconds: how long the run took, or has taken so far.
    """

    def __init__(self, plan: Plan) -> None:
        self.attempts: list[Attempt] = []
        self._plan = plan
        self._began = time.perf_counter()
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        return self._now() if self._ended is None else self._ended

    def _now(self) -> float:
        return time.perf_counter() - self._began

    async def run(self, told: Callable[[Crowd], None] = lambda _: None) -> None:
        """Let them all come. When it is cancelled, `attempts` has what there is.

        Args:
            told: called now and then.

        Raises:
            LoadError: they cannot come at all.
        """
        async with client() as http:
            make = await visitors(self._plan, http)
            self._began = time.perf_counter()
            telling = asyncio.create_task(self._tell(told))
            try:
                async with asyncio.TaskGroup() as together:
                    for number, at in enumerate(self._plan.arrivals()):
                        together.create_task(self._visit(number, at, make(number)))
            finally:
                telling.cancel()
                self._ended = self._now()

    async def _tell(self, told: Callable[[Crowd], None]) -> None:
        while True:
            await asyncio.sleep(1)
            told(self)

    async def _visit(self, number: int, at: float, visitor: Visitor) -> None:
        plan = self._plan
        pauses, turn = plan.pauses(number), 0
        await asyncio.sleep(at)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(visitor.close)
            while plan.goes_on(turn, self._now()):
                attempt = Attempt(number, turn, plan.way(number), plan.question(number, turn), self._now)
                try:
                    if turn == 0:
                        await visitor.open()
                    elif not plan.long:
                        await visitor.begin_anew()
                    await self._ask(visitor, attempt)
                except LoadError as problem:
                    self._send(attempt)
                    attempt.ends("failed", str(problem))
                turn += 1
                if plan.goes_on(turn, self._now()) and plan.think:
                    await asyncio.sleep(pauses.expovariate(1 / plan.think))

    async def _ask(self, visitor: Visitor, attempt: Attempt) -> None:
        self._send(attempt)
        try:
            async with asyncio.timeout(self._plan.patience):
                await visitor.ask(attempt)
        except TimeoutError:
            attempt.ends("failed", f"there was no end after {self._plan.patience:g} s")
            await visitor.close()  # what still comes is not the next one's

    def _send(self, attempt: Attempt) -> None:
        attempt.sent_at = self._now()
        self.attempts.append(attempt)


def client() -> httpx.AsyncClient:
    """For as many visitors as there are; it keeps no cookies of theirs."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    transport = httpx.AsyncHTTPTransport(limits=limits, trust_env=False, verify=ssl.create_default_context())
    none = CookieJar(DefaultCookiePolicy(allowed_domains=()))  # each visitor has his own
    return httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(None, connect=30), cookies=none)


async def visitors(plan: Plan, http: httpx.AsyncClient) -> Callable[[int], Visitor]:
    """Makes the visitor of a number.

    Raises:
        LoadError: this server cannot be visited so.
    """
    model = plan.model
    try:
        if "page" in plan.ways:
            await page.check(plan, http)
        if "v1" in plan.ways:
            model = await v1.check(plan, http)
    except (httpx.TransportError, httpx.InvalidURL) as problem:
        words = str(problem) or type(problem).__name__
        raise LoadError(f"nobody answers at {plan.url} ({words}): start the server, or check the address") from problem

    def make(number: int) -> Visitor:
        if plan.way(number) == "page":
            return page.Page(plan, http, plan.model)
        return v1.Program(plan, number, http, model)

    return make
