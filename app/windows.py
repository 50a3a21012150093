"""How often something has happened lately: moving windows, of this process or of several together."""

from __future__ import annotations

import logging
import math
import time
from typing import Final

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import ConfigurationError, StorageError
from pydantic import SecretStr

log = logging.getLogger(__name__)

# Longest wait for Redis, in seconds, and how long it is left alone when it was away.
_PATIENCE: Final = 1.0
_LEFT_ALONE: Final = 5.0


class WindowsAway(Exception):
    """It cannot be told now."""


class WindowsUnusable(Exception):
    """Redis cannot be used here. The text says what to do, and nothing of its URL."""


class Windows:
    """Counts, in the memory of this process or in a Redis that several share.

    Args:
        url: of the Redis; None: this process' memory.

    Raises:
        WindowsUnusable: Redis cannot be used here.
    """

    def __init__(self, url: SecretStr | None = None) -> None:
        self._redis = _redis(url) if url is not None else None
        self._limits = MovingWindowRateLimiter(self._redis or MemoryStorage())
        self._away_until = 0.0

    async def hit(self, limit: RateLimitItem, *what: str) -> int:
        """Count once, if there is room.

        Returns:
            0: it was counted; else the seconds until there is room.

        Raises:
            WindowsAway: it was not counted.
        """
        self._check()
        try:
            if await self._limits.hit(limit, *what):
                self._is_back()
                return 0
            return await self._seconds(limit, *what)
        except StorageError as problem:
            raise self._went(problem) from None

    async def wait(self, limit: RateLimitItem, *what: str) -> int:
        """The seconds until there is room; 0: there is. Nothing is counted.

        Raises:
            WindowsAway: it cannot be told.
        """
        self._check()
        try:
            if await self._limits.test(limit, *what):
                return 0
            return await self._seconds(limit, *what)
        except StorageError as problem:
            raise self._went(problem) from None

    async def close(self) -> None:
        """End the connections."""
        if self._redis is not None:
            await self._redis.bridge.get_connection().aclose()  # type: ignore[attr-defined]

    async def _seconds(self, limit: RateLimitItem, *what: str) -> int:
        until, _ = await self._limits.get_window_stats(limit, *what)
        return max(1, math.ceil(until - time.time()))

    def _check(self) -> None:
        if self._away_until > time.monotonic():
            raise WindowsAway

    def _went(self, problem: StorageError) -> WindowsAway:
        if not self._away_until:
            log.error("HEALTH RATE_LIMIT_STORAGE is away: %s", type(problem.storage_error).__name__)
        self._away_until = time.monotonic() + _LEFT_ALONE
        return WindowsAway()

    def _is_back(self) -> None:
        if self._away_until:
            self._away_until = 0.0
            log.info("HEALTH RATE_LIMIT_STORAGE is back")


def _redis(url: SecretStr) -> RedisStorage:
    try:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError:
        raise WindowsUnusable(
            "RATE_LIMIT_STORAGE needs the package redis. Install it: pip install redis==7.4.1"
        ) from None
    options = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE, "retry": Retry(NoBackoff(), 0)}
    try:
        storage = RedisStorage(
            f"async+{url.get_secret_value()}",
            wrap_exceptions=True,
            implementation="redispy",
            key_prefix="chainlit-ollama",
            **options,  # type: ignore[arg-type]
        )
        # What the URL sets that there is not would else be found out with the first reply.
        storage.bridge.get_connection().connection_pool.make_connection()  # type: ignore[attr-defined]
    except (ConfigurationError, ValueError, TypeError) as problem:
        raise WindowsUnusable(
            f"RATE_LIMIT_STORAGE cannot be used ({type(problem).__name__}). It takes redis://:password@host:6379"
        ) from None
    return storage
