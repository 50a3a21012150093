"""Whether a token is still good: Chainlit itself asks no more than that we have signed it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from chainlit.user import User

from app.page.tokens import agrees
from app.storage.accounts import ADMIN, Rights
from app.storage.problems import DatabaseAway

# What was read is believed for so long, in seconds, and of so many.
_FRESH: Final = 3.0
_MOST: Final = 10_000

V = TypeVar("V")


class Recent(Generic[V]):
    """What the database said of a name, for a few seconds; for longer while it is away.

    Args:
        read: asks the database.
    """

    def __init__(self, read: Callable[[str], Awaitable[V]]) -> None:
        self._read = read
        self._known: OrderedDict[str, tuple[float, V]] = OrderedDict()
        self._changes = 0
        self._away_until = 0.0

    async def get(self, name: str) -> V:
        """What is known of that name.

        Raises:
            DatabaseAway: nothing, and nobody can be asked now.
        """
        at = time.monotonic()
        known = self._known.get(name)
        if known is not None and known[0] > at:
            return known[1]
        try:
            if self._away_until > at:
                raise DatabaseAway("it was away just now")
            changes = self._changes
            value = await self._read(name)
        except DatabaseAway:
            # Each try may take seconds: one of them is enough for a while.
            self._away_until = max(self._away_until, time.monotonic() + _FRESH)
            if known is not None:
                return known[1]
            raise
        if changes == self._changes:
            self._known[name] = (time.monotonic() + _FRESH, value)
            self._known.move_to_end(name)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        return value

    def forget(self) -> None:
        """Something has changed: what was read before then, also what is being read now, is believed no more."""
        self._changes += 1
        self._known.clear()


class Standing:
    """Who a cookie leads to now, and which tokens are good now.

    Args:
        owner_of: whose history a browser shows that was given a link; None: its own.
        rights_of: of an account. None: there is no login, who has the cookie is the visitor.
    """

    def __init__(
        self,
        owner_of: Callable[[str], Awaitable[str | None]],
        rights_of: Callable[[str], Awaitable[Rights | None]] | None,
    ) -> None:
        self._owners = Recent(owner_of)
        self._rights = Recent(rights_of) if rights_of is not None else None

    @property
    def login(self) -> bool:
        """Whether visitors have to sign in."""
        return self._rights is not None

    async def leads_to(self, own: str) -> str:
        """The visitor whose history a browser shows, by what its cookie leads to.

        While the database is away and never told, that is its own: nobody's history can be read then.
        """
        try:
            return await self._owners.get(own) or own
        except DatabaseAway:
            return own

    async def stands(self, user: User, own: str | None) -> bool:
        """Whether a token is good that names `user`, from a browser whose cookie leads to `own`.

        While the database is away and never told, it is: no history can be read then, and the chat goes on.
        """
        try:
            if self._rights is not None:
                return agrees(user, await self._rights.get(user.identifier))
            # Without its cookie a token is worth nothing: one that was copied, or that of a browser sent away.
            return own is not None and user.identifier == (await self._owners.get(own) or own)
        except DatabaseAway:
            return True

    async def is_admin(self, identifier: str) -> bool:
        """Whether an account is an administrator's that may sign in.

        Raises:
            DatabaseAway: it is away and has never told.
        """
        rights = await self._rights.get(identifier) if self._rights is not None else None
        return rights is not None and rights.role == ADMIN and not rights.disabled

    def forget(self) -> None:
        """Somebody's rights, or whose history a browser shows, have changed."""
        self._owners.forget()
        if self._rights is not None:
            self._rights.forget()


async def nobodys(own: str) -> str | None:
    """In place of `owner_of` where nothing is kept: every browser is its own."""
    return None
