"""A turn for a program: its events as they come, and an end to it as soon as the program has left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TypeVar

from starlette.types import Receive

from app.errors import ChatError, Stopping
from app.turn import ChatTurn, Event

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class ClientLeft(Exception):
    """The program has closed its connection; nobody is there to be answered."""


@asynccontextmanager
async def watching(receive: Receive, left: Callable[[], None]) -> AsyncIterator[None]:
    """Within it, `left` is called at once when the client goes. The body of the request has been read before."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        left()

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


async def while_there(receive: Receive, work: Awaitable[_T]) -> _T:
    """What `work` returns; it is cancelled when the client goes.

    Raises:
        ClientLeft: it has gone.
    """
    task = asyncio.ensure_future(work)
    gone = False

    def left() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    async with watching(receive, left):
        try:
            return await task
        except asyncio.CancelledError:
            if gone:
                raise ClientLeft from None
            task.cancel()
            raise


class Relay:
    """Reads the events of a turn in a task of its own, so that whoever passes them on takes all that has come at once.

    A slow reader holds nothing up: a reply is bounded, and its engine is free for the next one.

    Args:
        turn: whose events nobody has read yet.

    Attributes:
        problem: why the turn failed; None: it did not, or not yet.
    """

    def __init__(self, turn: ChatTurn) -> None:
        self.turn = turn
        self.problem: ChatError | None = None
        self._events: list[Event] = []
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._left = False

    def start(self) -> asyncio.Task[None]:
        """Begin the turn. The task ends with it, and never fails."""
        self._task = asyncio.create_task(self._read())
        # Where the task was cancelled before its first step, nothing of `_read` runs.
        self._task.add_done_callback(lambda _: self._came.set())
        return self._task

    @property
    def ended(self) -> bool:
        """Whether the turn has ended and all its events were taken."""
        return self._task is not None and self._task.done() and not self._events

    async def take(self, seconds: float | None = None) -> list[Event]:
        """The events that have come since the last call; waits for the first, or for the end, at most `seconds`.

        Raises:
            ClientLeft: the client has.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._came.wait()
        if self._left:
            raise ClientLeft
        events, self._events = self._events, []
        if self._task is None or not self._task.done():
            self._came.clear()
        return events

    def leave(self) -> None:
        """The client has gone: the engine's work ends."""
        self._left = True
        self._cancel()

    def stop(self) -> None:
        """The server ends."""
        self.problem = self.problem or Stopping()
        self._cancel()

    async def close(self) -> None:
        """End the turn if it has not ended, and wait until it has."""
        self._cancel()
        if self._task is not None:
            await asyncio.wait({self._task})

    def _cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
        self._came.set()

    async def _read(self) -> None:
        try:
            async with aclosing(self.turn.events()) as events:
                async for event in events:
                    self._events.append(event)
                    self._came.set()
        except ChatError as problem:
            self.problem = problem
        except Exception as problem:
            log.exception("CHAT a reply broke off")
            self.problem = ChatError(detail=type(problem).__name__)
