"""Addresses of databases, as people write them, made those that SQLAlchemy takes."""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_POSTGRES: Final = "postgresql+asyncpg"
_SQLITE: Final = "sqlite+aiosqlite"
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def postgres_url(text: str) -> str:
    """A PostgreSQL URL (`postgresql+asyncpg://`, `postgresql://` or `postgres://`) for the driver asyncpg.

    `?sslmode=` is taken in libpq's words; `?host=` may name a socket's folder.

    Raises:
        ValueError: it is not such a URL; the message says what is allowed.
    """
    url = _parsed(text)
    if url is None or url.drivername not in (_POSTGRES, "postgresql", "postgres"):
        raise ValueError("an address such as postgresql+asyncpg://user:password@host:5432/database")
    query = dict(url.query)
    if not (url.host or query.get("host")) or not (url.port is None or 0 < url.port < 65536):
        raise ValueError("a host, and a port of 1 to 65535: postgresql+asyncpg://user:password@host:5432/database")
    if not url.database:
        raise ValueError("the name of a database at its end: postgresql+asyncpg://user:password@host:5432/database")
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    if query.keys() - {"host", "ssl"} or query.get("ssl", "require") not in _SSL_MODES:
        raise ValueError(f"after the question mark only host=FOLDER and sslmode={'|'.join(_SSL_MODES)}")
    return url.set(drivername=_POSTGRES, query=query).render_as_string(hide_password=False)


def sqlite_url(text: str) -> str:
    """The URL of an SQLite file (`sqlite:///folder/chat.db`) for the driver aiosqlite.

    Raises:
        ValueError: it is not such a URL; the message says what is allowed.
    """
    url = _parsed(text)
    if url is None or url.drivername not in (_SQLITE, "sqlite") or not url.database or url.host or url.query:
        raise ValueError(
            "the path of a file after three slashes, such as sqlite:///data/chat.db or sqlite:////data/chat.db"
        )
    return url.set(drivername=_SQLITE).render_as_string(hide_password=False)


def _parsed(text: str) -> URL | None:
    try:
        return make_url(text.strip())
    except (ArgumentError, ValueError):
        return None
