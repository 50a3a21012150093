"""Copy all conversations from SQLite to PostgreSQL:

python -m app.storage.copy --from sqlite:///data/chat.db --to postgresql+asyncpg://user:password@host/database
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from tqdm import tqdm

from app.storage.database import Database
from app.storage.problems import DatabaseAway, DatabaseRefused, reason
from app.storage.tables import metadata
from app.storage.texts import storable
from app.storage.urls import postgres_url, sqlite_url

# Rows in memory at once; a message may be of a megabyte.
_BATCH: Final = 100
# Those that others refer to come first.
_TABLES: Final[Sequence[Table]] = metadata.sorted_tables


class CopyRefused(Exception):
    """The copy was not made, and the target is as it was. The message is one line."""


async def copy(source: Database, target: Database, step: Callable[[int, int], None]) -> dict[str, int]:
    """Copy every row, in one transaction of the target. Both databases' tables are brought up to date before.

    What others write to the source meanwhile is not copied; others' writes to the target wait.

    Args:
        source: SQLite.
        target: PostgreSQL, without any conversation or visitor.
        step: called with how many rows have been copied and how many there are.

    Returns:
        How many rows each table has.

    Raises:
        CopyRefused: the target is not empty, or does not hold as many rows as the source in the end.
        DatabaseAway, DatabaseRefused: one of them cannot be used.
    """
    async with source.read() as old, target.write() as new:
        names = ", ".join(table.name for table in _TABLES)
        await new.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
        filled = [name for name, rows in (await _counts(new)).items() if rows]
        if filled:
            raise CopyRefused(f"the target is not empty: it has rows in {', '.join(filled)}")
        expected = await _counts(old)
        total, done = sum(expected.values()), 0
        step(done, total)
        for table in _TABLES:
            rows = await old.stream(select(table).order_by(*table.primary_key))
            async for batch in rows.mappings().partitions(_BATCH):
                await new.execute(insert(table), [storable(dict(row)) for row in batch])
                done += len(batch)
                step(done, total)
            await _number_on(new, table)
        found = await _counts(new)
        for name, count in expected.items():
            if found[name] != count:
                raise CopyRefused(f"{name}: {count} rows were read and {found[name]} are there")
    return found


async def _counts(connection: AsyncConnection) -> dict[str, int]:
    rows = {}
    for table in _TABLES:
        rows[table.name] = int((await connection.execute(select(func.count()).select_from(table))).scalar() or 0)
    return rows


async def _number_on(connection: AsyncConnection, table: Table) -> None:
    """Let new rows be numbered from where the copied ones end."""
    if "position" in table.c:
        sequence = func.pg_get_serial_sequence(table.name, "position")
        last = select(func.coalesce(func.max(table.c.position), 0) + 1).scalar_subquery()
        await connection.execute(select(func.setval(sequence, last, False)))


async def _copy_with_bar(source_url: str, target_url: str) -> dict[str, int]:
    async with AsyncExitStack() as stack:
        source, target = Database(source_url), Database(target_url)
        stack.push_async_callback(source.close)
        stack.push_async_callback(target.close)
        await _open(source, "the source")
        await _open(target, "the target")
        bar = stack.enter_context(tqdm(unit=" rows", unit_scale=True))

        def step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return await copy(source, target, step)


async def _open(database: Database, which: str) -> None:
    try:
        await database.open()
    except (DatabaseAway, DatabaseRefused, OSError) as problem:
        raise CopyRefused(f"{which} cannot be opened: {reason(problem)}") from problem


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 copied, 1 not copied, 2 an address is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m app.storage.copy",
        description="Copy all conversations from SQLite to PostgreSQL. "
        "Stop the server first: what it writes meanwhile is not copied.",
    )
    parser.add_argument("--from", dest="source", required=True, metavar="URL", help="sqlite:///data/chat.db")
    parser.add_argument(
        "--to", dest="target", required=True, metavar="URL", help="postgresql+asyncpg://user:password@host/database"
    )
    options = parser.parse_args(arguments)
    try:
        source = sqlite_url(options.source)
    except ValueError as problem:
        return _failed(f"--from takes {problem}", 2)
    try:
        target = postgres_url(options.target)
    except ValueError as problem:
        return _failed(f"--to takes {problem}", 2)
    file = Path(str(make_url(source).database))
    if not file.is_file():
        return _failed(f"the source is not there: {file}")
    try:
        found = asyncio.run(_copy_with_bar(source, target))
    except (CopyRefused, DatabaseAway, DatabaseRefused) as problem:
        return _failed(str(problem))
    except (SQLAlchemyError, OSError) as problem:
        return _failed(reason(problem))
    except KeyboardInterrupt:
        return _failed("stopped; the target is as it was")
    print("copied: " + ", ".join(f"{count} {name}" for name, count in found.items()))
    return 0


def _failed(problem: str, code: int = 1) -> int:
    print(f"chainlit-ollama: nothing was copied: {problem}", file=sys.stderr)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
