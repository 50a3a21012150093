"""How memory and queue were over the last day: looked at every minute, in memory, and bounded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from app.memory import Memory

log = logging.getLogger(__name__)

_PAUSE: Final = 60.0
_MOST: Final = 24 * 60


@dataclass(frozen=True, slots=True)
class Sample:
    """One look.

    Attributes:
        at: when, in seconds since 1970.
        memory: then.
        serving, waiting: replies that were written, and requests that waited for their turn.
    """

    at: float
    memory: Memory
    serving: int
    waiting: int


class Samples:
    """Looks every minute.

    Args:
        memory: tells how much is used.
        serving, waiting: tell how many replies are written and wait.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        memory: Callable[[], Memory],
        serving: Callable[[], int],
        waiting: Callable[[], int],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._memory = memory
        self._serving = serving
        self._waiting = waiting
        self._clock = clock
        self._kept: deque[Sample] = deque(maxlen=_MOST)

    async def run(self) -> None:
        """Look every minute, for ever."""
        while True:
            try:
                self._kept.append(self.now())
            except Exception:
                log.exception("STATS memory and queue could not be looked at")
            await asyncio.sleep(_PAUSE)

    def now(self) -> Sample:
        """How it is at this moment."""
        return Sample(self._clock(), self._memory(), self._serving(), self._waiting())

    def all(self) -> Sequence[Sample]:
        """Those of the last day, the oldest first, and how it is now."""
        return [*self._kept, self.now()]
