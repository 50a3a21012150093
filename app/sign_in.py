"""Signing in with a name and a password."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Final

from app.account_errors import BadName, NameTaken, WrongPassword
from app.account_rules import check_password, identifier_of
from app.passwords import Passwords
from app.storage.accounts import USER, Account, Accounts
from app.storage.problems import DatabaseAway
from app.tries import Tries

log = logging.getLogger(__name__)

_FIRST: Final = (
    "Add somebody: python -m app.users add NAME; "
    "in the container: docker exec -it chainlit-ollama python -m app.users add NAME"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a try comes from.

    Attributes:
        address: of the network; None: not known.
        device: what the browser's own cookie leads to; None: it has none.
    """

    address: str | None
    device: str | None


class SignIn:
    """The accounts that have passwords.

    Args:
        accounts: those.
        passwords: hashes and checks.
        tries: how often that may be asked for.
        least: characters of a new password.
    """

    def __init__(self, accounts: Accounts, passwords: Passwords, tries: Tries, least: int) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._tries = tries
        self._least = least

    async def tell_if_nobody(self) -> None:
        """Log how to make the first account, if there is none."""
        try:
            if await self._accounts.count() == 0:
                log.warning("AUTH nobody can sign in yet. %s", _FIRST)
        except DatabaseAway as problem:
            log.warning("AUTH nobody can sign in until the database is back: %s", problem)

    async def enter(self, name: str, password: str, origin: Origin) -> Account:
        """The account of that name and password.

        Who does not get in learns nothing: an unknown name, a disabled account and a wrong password take equally long
        and are answered alike.

        Raises:
            WrongPassword: no.
            TooManyTries: not now.
            DatabaseAway: it cannot be told.
        """
        try:
            identifier = identifier_of(name)
        except BadName:
            identifier = ""
        await self._tries.count(origin.address, identifier or name, origin.device)
        account = await self._accounts.find(identifier) if identifier else None
        fits = await self._passwords.fits(password, account.password_hash if account else None)
        if account is None or not fits or account.disabled:
            log.info("AUTH a sign-in was refused")
            raise WrongPassword
        self._tries.succeeded(identifier, origin.device)
        await self._refresh(account, password)
        return account

    async def register(self, name: str, password: str, origin: Origin) -> Account:
        """A new account.

        Raises:
            BadName, WeakPassword: not with these.
            NameTaken: there is one of that name.
            TooManyTries: not now.
            DatabaseAway: it cannot be made.
        """
        await self._tries.count_action(origin.address, "register:")
        account = await self.add(name, password)
        self._tries.succeeded(account.identifier, origin.device)
        return account

    async def add(self, name: str, password: str, role: str = USER) -> Account:
        """As `register`, by somebody who may do so as often as there is need."""
        identifier = identifier_of(name)
        check_password(password, name, self._least)
        account = await self._accounts.add(identifier, name.strip(), await self._passwords.hashed(password), role)
        if account is None:
            raise NameTaken
        return account

    async def change_password(self, account: Account, old: str, new: str, origin: Origin) -> Account:
        """Another password for who knows the old one; all tokens from before are good no more.

        Raises:
            WrongPassword: that is not the old one.
            WeakPassword: not with that.
            TooManyTries: not now.
            DatabaseAway: it cannot be changed.
        """
        await self._tries.count(origin.address, account.identifier, origin.device)
        if not await self._passwords.fits(old, account.password_hash):
            raise WrongPassword
        return await self.set_password(account, new)

    async def set_password(self, account: Account, new: str) -> Account:
        """As `change_password`, by somebody who may do so without the old one."""
        check_password(new, account.name, self._least)
        await self._accounts.set_password(account.user_id, await self._passwords.hashed(new))
        return await self._accounts.find(account.identifier) or replace(account, disabled=True)

    async def _refresh(self, account: Account, password: str) -> None:
        """Hash a password anew that was hashed with other parameters."""
        if not self._passwords.outdated(account.password_hash):
            return
        try:
            hashed = await self._passwords.hashed(password)
            await self._accounts.rehash(account.user_id, account.password_hash, hashed)
        except DatabaseAway as problem:
            log.warning("AUTH a password could not be hashed anew, that is for the next time: %s", problem)
