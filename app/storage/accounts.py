"""Who may sign in, and which of their tokens are good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Select, delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.database import Database
from app.storage.queries import all_rows, first_row, insert_new
from app.storage.tables import accounts, deleted_threads, threads, users
from app.storage.texts import new_id, now

USER: Final = "user"
ADMIN: Final = "admin"


@dataclass(frozen=True, slots=True)
class Rights:
    """What decides whether somebody's token is good: it names the same `user_id` and `token_version`. And what it
    opens: `role` is `user` or `admin`."""

    user_id: str
    token_version: int
    disabled: bool
    role: str = USER


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can sign in.

    Attributes:
        identifier: the name, folded; or a provider and what it calls its user, with a colon between.
        name: as its owner wrote it.
        password_hash: empty: a provider knows who this is.
        role: `user` or `admin`.
    """

    user_id: str
    identifier: str
    name: str
    password_hash: str = field(repr=False)
    role: str
    disabled: bool
    token_version: int
    created_at: str

    @property
    def by_provider(self) -> bool:
        """Whether a provider knows who this is, and there is no password."""
        return not self.password_hash

    @property
    def shown_name(self) -> str:
        """The name as its owner knows it."""
        return self.name.partition(":")[2] or self.name if self.by_provider else self.name

    @property
    def rights(self) -> Rights:
        return Rights(self.user_id, self.token_version, self.disabled, self.role)


class Accounts:
    """The table of accounts, each with its row in the table of visitors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rights(self, identifier: str) -> Rights | None:
        """None: there is no such account."""
        account = await self.find(identifier)
        return account.rights if account else None

    async def find(self, identifier: str) -> Account | None:
        """The account of that identifier, or None."""
        async with self._database.read() as connection:
            return await _find(connection, identifier)

    async def all(self) -> Sequence[Account]:
        """All accounts, by name."""
        async with self._database.read() as connection:
            rows = await all_rows(connection, _accounts().order_by(users.c.identifier))
        return [Account(**row) for row in rows]

    async def count(self) -> int:
        """How many accounts there are."""
        async with self._database.read() as connection:
            return int((await connection.execute(select(func.count()).select_from(accounts))).scalar_one())

    async def add(self, identifier: str, name: str, password_hash: str, role: str = USER) -> Account | None:
        """A new account; None: there is one of that identifier or of that name."""
        async with self._database.write() as connection:
            return await _add(connection, identifier, name, password_hash, role)

    async def enter(self, identifier: str, name: str) -> Account:
        """The account of somebody whom a provider has sent, made at the first time."""
        known = await self.find(identifier)
        if known is not None:
            return known
        async with self._database.write() as connection:
            made = await _add(connection, identifier, name, "", USER)
            # Another's who had that name before it was given up at the provider.
            made = made or await _find(connection, identifier)
            made = made or await _add(connection, identifier, identifier, "", USER)
        if made is None:
            raise LookupError("the account was deleted just now")
        return made

    async def set_password(self, user_id: str, password_hash: str) -> None:
        """Another password; all tokens from before are good no more."""
        async with self._database.write() as connection:
            values = {"password_hash": password_hash, "password_changed_at": now()}
            await connection.execute(update(accounts).where(accounts.c.user_id == user_id).values(**values))
            await connection.execute(_end_tokens(user_id))

    async def rehash(self, user_id: str, old: str, new: str) -> None:
        """The same password, hashed with other parameters; nothing happens if it was changed meanwhile."""
        same = accounts.c.user_id == user_id, accounts.c.password_hash == old
        async with self._database.write() as connection:
            await connection.execute(update(accounts).where(*same).values(password_hash=new))

    async def set_disabled(self, user_id: str, disabled: bool) -> None:
        """Let nobody in by that account, or again; tokens from before are good no more in either case."""
        async with self._database.write() as connection:
            await connection.execute(update(accounts).where(accounts.c.user_id == user_id).values(disabled=disabled))
            await connection.execute(_end_tokens(user_id))

    async def end_tokens(self, user_id: str) -> None:
        """All tokens of a visitor from before are good no more."""
        async with self._database.write() as connection:
            await connection.execute(_end_tokens(user_id))

    async def remove(self, user_id: str) -> int:
        """Delete an account with all of its conversations, for ever.

        Returns:
            How many conversations those were.
        """
        async with self._database.write() as connection:
            own = select(threads.c.id, literal(now(), deleted_threads.c.deleted_at.type))
            own = own.where(threads.c.user_id == user_id)
            gone = await connection.execute(insert(deleted_threads).from_select(["id", "deleted_at"], own))
            await connection.execute(delete(users).where(users.c.id == user_id))
        return gone.rowcount


def _accounts() -> Select[Any]:
    columns = (accounts.c.name, accounts.c.password_hash, accounts.c.role, accounts.c.disabled, accounts.c.created_at)
    query = select(accounts.c.user_id, users.c.identifier, users.c.token_version, *columns)
    return query.join(users, accounts.c.user_id == users.c.id)


async def _find(connection: AsyncConnection, identifier: str) -> Account | None:
    row = await first_row(connection, _accounts().where(users.c.identifier == identifier))
    return Account(**row) if row else None


async def _add(
    connection: AsyncConnection, identifier: str, name: str, password_hash: str, role: str
) -> Account | None:
    taken = select(accounts.c.user_id).where(accounts.c.name == name)
    if await first_row(connection, taken):
        return None
    user_id, at = new_id(), now()
    user = {"id": user_id, "identifier": identifier, "metadata": {}, "created_at": at}
    if not await insert_new(connection, users, "identifier", user):
        return None
    account = Account(user_id, identifier, name, password_hash, role, False, 0, at)
    values = {"name": name, "password_hash": password_hash, "role": role, "disabled": False, "created_at": at}
    await connection.execute(insert(accounts).values(user_id=user_id, password_changed_at=at, **values))
    return account


def _end_tokens(user_id: str) -> Any:
    return update(users).where(users.c.id == user_id).values(token_version=users.c.token_version + 1)
