"""Personal links, and the browsers that show another visitor's history by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, Select, and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.database import Database
from app.storage.queries import all_rows, first_row, upsert
from app.storage.tables import devices, links, threads, users
from app.storage.texts import new_id, now, storable


@dataclass(frozen=True, slots=True)
class Link:
    """A personal link. Times are ISO 8601."""

    id: str
    created_at: str
    expires_at: str


@dataclass(frozen=True, slots=True)
class Device:
    """A browser that shows its owner's history.

    Attributes:
        identifier: what the browser's own cookie leads to.
        name: what it says it is.
    """

    id: str
    identifier: str
    name: str
    joined_at: str


class LinkUnknown(LookupError):
    """There is no such link, or not any more."""


class OwnLink(ValueError):
    """The browser shows that history already."""


class TooMany(ValueError):
    """No more fit; the argument is how many there may be."""


class Devices:
    """The tables of links and of browsers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def owner_of(self, identifier: str) -> str | None:
        """Whose history a browser shows: the owner's identifier; None: its own."""
        async with self._database.read() as connection:
            owner = await _owner(connection, identifier)
        return owner[1] if owner else None

    async def make_link(self, user_id: str, secret_hash: str, expires_at: str, most: int) -> Link:
        """A new link to a visitor's history.

        Args:
            secret_hash: of the secret that the link is known by.
            most: how many of a visitor's may be good at once.

        Raises:
            TooMany: they are.
        """
        link = Link(new_id(), now(), expires_at)
        good = select(func.count()).select_from(links).where(links.c.user_id == user_id)
        async with self._database.write() as connection:
            await connection.execute(_lock(user_id))
            await connection.execute(delete(links).where(links.c.expires_at <= now()))
            if (await connection.execute(good)).scalar_one() >= most:
                raise TooMany(most)
            await connection.execute(insert(links).values(user_id=user_id, secret_hash=secret_hash, **asdict(link)))
        return link

    async def links_of(self, user_id: str) -> Sequence[Link]:
        """A visitor's links that are still good, the oldest first."""
        query = select(links.c.id, links.c.created_at, links.c.expires_at).order_by(links.c.created_at)
        async with self._database.read() as connection:
            rows = await all_rows(connection, query.where(links.c.user_id == user_id, links.c.expires_at > now()))
        return [Link(**row) for row in rows]

    async def revoke_link(self, user_id: str, link_id: str) -> bool:
        """A visitor's link is good no more; who took it before stays. False: the visitor has no such link."""
        async with self._database.write() as connection:
            gone = await connection.execute(delete(links).where(links.c.id == link_id, links.c.user_id == user_id))
        return bool(gone.rowcount)

    async def join(self, secret_hash: str, identifier: str, name: str, most: int) -> None:
        """From now on a browser shows the history that a link leads to.

        Args:
            secret_hash: of the link's secret.
            identifier: what the browser's own cookie leads to.
            name: what it says it is.
            most: how many browsers may show another's history.

        Raises:
            LinkUnknown: the link is good no more, or never was.
            OwnLink: the browser shows that history already.
            TooMany: so many do already.
        """
        wanted = select(links.c.user_id).where(links.c.secret_hash == secret_hash, links.c.expires_at > now())
        async with self._database.write() as connection:
            link = await first_row(connection, wanted)
            if link is None:
                raise LinkUnknown
            owner_id: str = link["user_id"]
            await connection.execute(_lock(owner_id))
            if await first_row(connection, wanted) is None:  # the owner has sent a browser away meanwhile
                raise LinkUnknown
            own = select(users.c.id).where(users.c.identifier == identifier)
            shown = await _owner(connection, identifier)
            if owner_id == (shown[0] if shown else (await connection.execute(own)).scalar()):
                raise OwnLink
            others = select(func.count()).select_from(devices)
            others = others.where(devices.c.user_id == owner_id, devices.c.identifier != identifier)
            if (await connection.execute(others)).scalar_one() >= most:
                raise TooMany(most)
            row = asdict(Device(new_id(), identifier, storable(name), now())) | {"user_id": owner_id}
            statement = upsert(connection, devices).values(**row)
            await connection.execute(statement.on_conflict_do_update(index_elements=["identifier"], set_=row))

    async def of(self, user_id: str) -> Sequence[Device]:
        """The browsers that show a visitor's history by a link, the first to join first."""
        columns = (devices.c.id, devices.c.identifier, devices.c.name, devices.c.joined_at)
        query = select(*columns).where(devices.c.user_id == user_id).order_by(devices.c.joined_at)
        async with self._database.read() as connection:
            rows = await all_rows(connection, query)
        return [Device(**row) for row in rows]

    async def send_away(self, user_id: str, device_id: str) -> bool:
        """A browser shows its own history again, and writes no more into the conversations that it left with its owner.

        The owner's links end: it may know any of them. False: no such browser shows this visitor's.
        """
        async with self._database.write() as connection:
            await connection.execute(_lock(user_id))
            gone = await _part(connection, user_id, devices.c.id == device_id)
            if gone:
                await connection.execute(delete(links).where(links.c.user_id == user_id))
        return gone

    async def leave(self, user_id: str, device_id: str, identifier: str) -> bool:
        """As `send_away`, but the browser itself wants it, so the links stay. False: it is another one, or none."""
        async with self._database.write() as connection:
            itself = and_(devices.c.id == device_id, devices.c.identifier == identifier)
            return await _part(connection, user_id, itself)


async def _part(connection: AsyncConnection, user_id: str, which: ColumnElement[bool]) -> bool:
    """A browser and the visitor whose history it shows have nothing to do with each other any more."""
    device = await first_row(connection, select(devices.c.identifier).where(which, devices.c.user_id == user_id))
    if device is None:
        return False
    await connection.execute(delete(devices).where(which, devices.c.user_id == user_id))
    own = select(users.c.id).where(users.c.identifier == device["identifier"]).scalar_subquery()
    left = update(threads).where(threads.c.moved_from == own, threads.c.user_id == user_id)
    await connection.execute(left.values(moved_from=None))
    return True


async def _owner(connection: AsyncConnection, identifier: str) -> tuple[str, str] | None:
    """The id and the identifier of the visitor whose history a browser shows; None: its own."""
    query = select(users.c.id, users.c.identifier).join(devices, devices.c.user_id == users.c.id)
    row = (await connection.execute(query.where(devices.c.identifier == identifier))).first()
    return (row.id, row.identifier) if row else None


def _lock(user_id: str) -> Select[tuple[str]]:
    """Of two processes that count what a visitor has before they add to it, one waits."""
    return select(users.c.id).where(users.c.id == user_id).with_for_update()
