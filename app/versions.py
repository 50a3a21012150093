"""Which versions of what are at work here."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Callable
from importlib import metadata

from app import __version__
from app.engines.base import Engine, VersionedEngine
from app.engines.catalog import Catalog
from app.errors import EngineError


class Versions:
    """Asks the engines, and keeps what they say for a while.

    Args:
        catalog: knows the engines, and which of them are away: those are not asked.
        max_age: seconds that an answer is kept.
        clock: seconds, monotonic.
    """

    def __init__(self, catalog: Catalog, *, max_age: float = 30, clock: Callable[[], float] = time.monotonic) -> None:
        self._catalog = catalog
        self._max_age = max_age
        self._clock = clock
        self._asking = asyncio.Lock()
        self._engines: dict[str, str | None] = {}
        self._read_at: float | None = None

    async def read(self) -> dict[str, str | None]:
        """By the names of the parts; None: an engine that is away, or does not tell."""
        async with self._asking:
            if self._read_at is None or self._clock() - self._read_at > self._max_age:
                self._engines = {engine.name: await self._of(engine) for engine in self._catalog.engines.values()}
                self._read_at = self._clock()
        own = {"app": __version__, "python": platform.python_version(), "chainlit": metadata.version("chainlit")}
        return own | self._engines

    async def _of(self, engine: Engine) -> str | None:
        if not isinstance(engine, VersionedEngine) or engine.name in self._catalog.problems:
            return None
        try:
            return await engine.version()
        except EngineError:
            return None  # it has gone away just now, as the page and /ready will say
