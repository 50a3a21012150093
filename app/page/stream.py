"""Text on its way to the browser: the first piece at once, then gathered.

One socket event for each token is quadratic in the browser: 2,000 tokens took 15 to 19 s to show, gathered 0.44 s.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

# At most one event in this many seconds.
INTERVAL: Final = 0.05


class GatheredStream:
    """Passes text on, in order and whole, at most once in `interval` seconds.

    Args:
        send: takes each gathered piece.
        interval: seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        send: Callable[[str], Awaitable[None]],
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._interval = interval
        self._clock = clock
        self._pieces: list[str] = []
        self._sent_at: float | None = None
        self._timer: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()

    async def add(self, text: str) -> None:
        """Take the next piece."""
        self._pieces.append(text)
        if self._timer is not None:
            return
        wait = 0.0 if self._sent_at is None else self._sent_at + self._interval - self._clock()
        if wait <= 0:
            await self._flush()
        else:
            self._timer = asyncio.create_task(self._flush_later(wait))

    async def end(self) -> None:
        """Send what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._flush()

    async def _flush_later(self, wait: float) -> None:
        await asyncio.sleep(wait)
        self._timer = None
        await self._flush()

    async def _flush(self) -> None:
        async with self._sending:  # pieces never overtake each other
            if self._pieces:
                text, self._pieces = "".join(self._pieces), []
                self._sent_at = self._clock()
                await self._send(text)
