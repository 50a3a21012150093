"""Whether there is memory for one more reply: near its limit the kernel kills the model, and every reply with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.machine import MIB, container_in_use

log = logging.getLogger(__name__)

# It is looked at this often, in seconds.
_EVERY: Final = 1.0


class MemoryGuard:
    """Compares what the container uses with what it may use. Where no control group has a limit there is no guard.

    Args:
        share: of a group's limit from which on memory is short; 0: never.
        root: of the file system; another one in tests.
        clock: seconds, monotonic.
    """

    def __init__(self, share: float, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._root = root
        self._limited = bool(share) and container_in_use(root) is not None
        self._looked_at: float | None = None
        self._short = False

    def short(self) -> bool:
        """Whether new replies should be refused."""
        if not self._limited:
            return False
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= _EVERY:
            self._looked_at = now
            self._look()
        return self._short

    def _look(self) -> None:
        found = container_in_use(self._root)
        was, self._short = self._short, found is not None and found.used > self._share * found.size
        if found is not None and self._short and not was:
            log.warning(
                "HEALTH %d of %d MiB of memory are in use: new replies are refused (MEMORY_GUARD). A smaller "
                "NUM_CTX, LLAMA_ARG_CACHE_RAM or model leaves more",
                found.used // MIB,
                found.size // MIB,
            )
        if was and not self._short:
            log.info("HEALTH there is memory again: new replies are taken")
