"""Whether there is memory for one more reply: near its limit the kernel kills the model, and every reply with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.machine import MIB, control_groups, memory_limit, working_set

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
        self._groups = [group for group in control_groups(root) if memory_limit(group)] if share else []
        self._looked_at: float | None = None
        self._short = False

    def short(self) -> bool:
        """Whether new replies should be refused."""
        if not self._groups:
            return False
        now = self._clock()
        if self._looked_at is None or now - self._looked_at >= _EVERY:
            self._looked_at = now
            self._look()
        return self._short

    def _look(self) -> None:
        was, self._short = self._short, False
        for group in self._groups:
            limit, used = memory_limit(group), working_set(group)
            if limit and used > self._share * limit:
                self._short = True
                if not was:
                    log.warning(
                        "HEALTH %d of %d MiB of memory are in use: new replies are refused (MEMORY_GUARD). A smaller "
                        "NUM_CTX, LLAMA_ARG_CACHE_RAM or model leaves more",
                        used // MIB,
                        limit // MIB,
                    )
                return
        if was:
            log.info("HEALTH there is memory again: new replies are taken")
