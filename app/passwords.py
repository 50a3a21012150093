"""Passwords as they are kept: hashed with Argon2id, a few at a time."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Final, TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from app.account_errors import TooManyTries
from app.account_rules import LONGEST_PASSWORD, plain_password

# OWASP's for Argon2id: 19 MiB, two passes, one thread; 20 to 50 ms on a small server.
# https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html
_MEMORY_KIB: Final = 19_456
_PASSES: Final = 2
# Each takes a core, and the model needs them too.
_AT_ONCE: Final = 2
_WAITING: Final = 50
_RETRY_SECONDS: Final = 5

R = TypeVar("R")


class Passwords:
    """Hashes passwords and checks them, in threads."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1, type=Type.ID)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._asked = 0
        # Of nobody's password: checked where there is no account, which then takes as long as where there is one.
        self._nobodys = self._hasher.hash(secrets.token_urlsafe())

    async def hashed(self, password: str) -> str:
        """A password as it is kept.

        Raises:
            TooManyTries: too many wait for theirs already.
        """
        return await self._in_turn(lambda: self._hasher.hash(plain_password(password)))

    async def fits(self, password: str, kept: str | None) -> bool:
        """Whether a password is the kept one; without one (None, or the empty string) it is not, and takes as long.

        Raises:
            TooManyTries: too many wait for theirs already.
        """
        if len(password) > LONGEST_PASSWORD:
            password, kept = "", None
        return await self._in_turn(lambda: self._verify(password, kept or self._nobodys)) and bool(kept)

    def outdated(self, kept: str) -> bool:
        """Whether a hash was made with other parameters than one would be now."""
        return self._hasher.check_needs_rehash(kept)

    def _verify(self, password: str, kept: str) -> bool:
        try:
            return self._hasher.verify(kept, plain_password(password).encode("utf-8", "replace"))
        except (VerificationError, InvalidHashError):
            return False

    async def _in_turn(self, work: Callable[[], R]) -> R:
        if self._asked >= _WAITING:
            raise TooManyTries(seconds=_RETRY_SECONDS)
        self._asked += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work)
        finally:
            self._asked -= 1
