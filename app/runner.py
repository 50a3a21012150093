"""uvicorn, ended with care."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType

import uvicorn


class Runner(uvicorn.Server):
    """Ends at once on SIGINT, and on SIGTERM once `wind_up` has ended: an orchestrator expects requests to be served
    to their end. A second signal ends at once.

    Args:
        config: uvicorn's.
        wind_up: lets what is under way finish, within a time of its own.

    Attributes:
        problem: why it has ended by itself; empty: it has not.
    """

    def __init__(self, config: uvicorn.Config, wind_up: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._wind_up = wind_up
        self._loop: asyncio.AbstractEventLoop | None = None
        self._winding_up: asyncio.Task[None] | None = None
        self._told = False
        self.problem = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        # The program itself, some 200,000 objects, stays as it is: to look through it for garbage stops every reply for
        # a tenth of a second.
        gc.freeze()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGTERM and self._loop is not None and not self._told:
            self._told = True
            self._loop.call_soon_threadsafe(self._begin)
        else:
            super().handle_exit(sig, frame)

    def give_up(self, problem: str) -> None:
        """End at once, since there is nothing that could be served."""
        self.problem = problem
        self.should_exit = True

    def _begin(self) -> None:
        self._winding_up = asyncio.create_task(self._end())

    async def _end(self) -> None:
        try:
            await self._wind_up()
        finally:
            super().handle_exit(signal.SIGTERM, None)
