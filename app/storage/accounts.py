"""Who may sign in, and which of their tokens are good."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from app.storage.database import Database
from app.storage.queries import first_row
from app.storage.tables import accounts, users


@dataclass(frozen=True, slots=True)
class Rights:
    """What decides whether somebody's token is good: it names the same `user_id` and `token_version`."""

    user_id: str
    token_version: int
    disabled: bool


class Accounts:
    """The table of accounts. An account's identifier is its name, folded, or what a provider calls it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rights(self, identifier: str) -> Rights | None:
        """None: there is no such account."""
        query = select(users.c.id, users.c.token_version, accounts.c.disabled)
        query = query.join(accounts, accounts.c.user_id == users.c.id).where(users.c.identifier == identifier)
        async with self._database.read() as connection:
            row = await first_row(connection, query)
        return Rights(row["id"], row["token_version"], row["disabled"]) if row else None
