"""Brings a database's tables up to date, whoever else starts at the same moment."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, inspect, select, text

from app.storage.connect import WRITES, make_engine
from app.storage.problems import DatabaseRefused
from app.storage.tables import REVISION

log = logging.getLogger(__name__)

_FOLDER: Final = Path(__file__).with_name("migrations")
# Any number, the same in every version of this program: it names our lock among PostgreSQL's.
_LOCK: Final = 7_276_130_571
# `normalize`, of which our search is made.
_OLDEST_POSTGRES: Final = (13,)
# Before there were migrations a table of one row told the version of the others.
_OLD_TABLE: Final = "schema_version"
_OLD_REVISION: Final = "0001"


async def revision(url: str) -> str | None:
    """What the tables are of, REVISION if they are of this version; None: there are none of ours. Nothing is changed.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: it is no database.
        OSError: it is out of reach.
    """
    engine = make_engine(url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_revision)
    finally:
        await engine.dispose()


async def migrate(url: str) -> None:
    """Make the tables, or bring them up to date, in one transaction; a second process waits until it is done.

    Args:
        url: SQLAlchemy's, for aiosqlite or asyncpg.

    Raises:
        DatabaseRefused: its tables are of a newer version of this program, or it is no PostgreSQL that we can use.
        sqlalchemy.exc.SQLAlchemyError: it is no database, or something in it is in the way.
        OSError: it is out of reach.
    """
    engine = make_engine(url, migrating=True)
    try:
        async with engine.connect() as connection:
            found = await connection.run_sync(_revision)
            await connection.rollback()
            if found == REVISION:
                return
            await connection.execution_options(**{WRITES: True})
            async with connection.begin():
                await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def _revision(connection: Connection) -> str | None:
    """What the tables are of; None: there are none of ours."""
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return revision
    if _OLD_TABLE in tables:
        version = connection.execute(text(f"SELECT version FROM {_OLD_TABLE}")).scalar()
        return _OLD_REVISION if version == 1 else f"{_OLD_TABLE} {version}"
    return None


def _upgrade(connection: Connection) -> None:
    # SQLite's lock is the transaction itself: BEGIN IMMEDIATE.
    if connection.dialect.name == "postgresql":
        _check_postgres(connection)
        connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    found = _revision(connection)
    if found == REVISION:  # somebody else was quicker
        return
    # Not at the top: it takes a seventh of a second, and most starts have nothing to migrate.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    if found is not None and found not in {
        script.revision for script in ScriptDirectory.from_config(config).walk_revisions()
    }:
        raise DatabaseRefused(
            f"the database's tables ({found}) are of a newer version of this program, which goes up to {REVISION}"
        )
    if found == _OLD_REVISION and "alembic_version" not in inspect(connection).get_table_names():
        command.stamp(config, _OLD_REVISION)
    command.upgrade(config, REVISION)
    if connection.dialect.name == "sqlite" and connection.execute(text("PRAGMA foreign_key_check")).first():
        raise DatabaseRefused("the database is damaged: some of its rows refer to rows that are not there")
    log.info(
        "STORE the tables are made" if found is None else "STORE the tables are upgraded from %s to %s",
        *([] if found is None else [found, REVISION]),
    )


def _check_postgres(connection: Connection) -> None:
    version = connection.dialect.server_version_info or ()
    if version < _OLDEST_POSTGRES:
        raise DatabaseRefused(f"PostgreSQL {_OLDEST_POSTGRES[0]} or newer is needed, this is {version[0]}")
    encoding = connection.execute(text("SHOW server_encoding")).scalar()
    if encoding != "UTF8":
        raise DatabaseRefused(
            f"the database's encoding is {encoding}; make one with UTF8: createdb -E UTF8 -T template0"
        )
