"""What the commands beside the server share: times, files that are written, and what went wrong in one line."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TextIO

from sqlalchemy.exc import SQLAlchemyError

from app.assembly.database import database_of, is_missing
from app.settings import Settings, SettingsError, read_settings
from app.storage.database import FILE, Database
from app.storage.problems import DatabaseAway, DatabaseRefused, reason

_AGO: Final = re.compile(r"(\d{1,6})([dhm])")
_UNITS: Final = {"d": "days", "h": "hours", "m": "minutes"}


class Failed(Exception):
    """What was asked for is not done. The message is one line."""


# What `in_one_line` has words for.
PROBLEMS: Final = (Failed, DatabaseAway, DatabaseRefused, SQLAlchemyError, OSError)


def in_one_line(problem: Exception) -> str:
    """What went wrong, for whoever gave the command."""
    if isinstance(problem, DatabaseAway | DatabaseRefused):
        return f"the database cannot be used ({problem})"
    if isinstance(problem, OSError) and problem.filename:
        return f"{problem.strerror}: {problem.filename}"
    if isinstance(problem, SQLAlchemyError | OSError):
        return reason(problem)
    return str(problem)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """The database of the settings, open.

    Raises:
        DatabaseAway, DatabaseRefused, OSError: it cannot be.
    """
    database = database_of(settings)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


def check_it_is_there(settings: Settings) -> None:
    """Raises Failed where there is no database yet; nothing is made then."""
    if is_missing(settings):
        raise Failed(f"there is no database yet: {settings.data_dir / FILE}")


def moment(text: str) -> str:
    """A date, a time (UTC where it does not say otherwise) or how long ago, as the database has it.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        if ago := _AGO.fullmatch(text.strip()):
            at = datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            at = datetime.fromisoformat(text.strip())
            at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is no time: write a date (2026-11-01), a time (2026-11-01T08:00+03:00) or how long ago (7d, 24h)"
        ) from None
    return at.isoformat(timespec="microseconds")


@contextmanager
def writing(file: Path | None, *, replace: bool) -> Iterator[TextIO]:
    """Where a command writes to: a file that its owner alone may read, or the terminal.

    The file has its name once it is whole: half of one must not be taken for it.

    Args:
        file: None: the terminal.
        replace: a file of that name may be there already.

    Raises:
        Failed: it is there, and may not be.
        OSError: it cannot be written.
    """
    if file is None:
        yield sys.stdout
        return
    if not replace:
        try:
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            raise Failed(f"{file} is there already. Choose another name, or delete it first") from None
    part, whole = file.with_name(file.name + ".part"), False
    try:
        with os.fdopen(
            os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w", encoding="utf-8", newline=""
        ) as out:
            yield out
        os.replace(part, file)
        whole = True
    finally:
        part.unlink(missing_ok=True)
        if not whole and not replace:
            file.unlink(missing_ok=True)


def write_out(
    work: Callable[[Settings, TextIO], Coroutine[Any, Any, int]],
    file: Path | None,
    *,
    replace: bool,
    unit: str,
    undone: str,
) -> int:
    """Do what a command is for that writes a file from the database of the settings.

    Args:
        work: writes, and returns how many of `unit` it wrote.
        file, replace: see `writing`.
        unit: what is counted, for people.
        undone: what was not done where it fails, for people.

    Returns:
        The exit code: 0 written, 1 not written, 2 a setting is wrong.
    """
    try:
        settings = read_settings()
        check_it_is_there(settings)
        with writing(file, replace=replace) as out:
            count = asyncio.run(work(settings, out))
    except BrokenPipeError:
        be_quiet()
        return 1
    except (*PROBLEMS, SettingsError, KeyboardInterrupt) as problem:
        words = "stopped" if isinstance(problem, KeyboardInterrupt) else in_one_line(problem)
        print(f"chainlit-ollama: {undone}: {words}", file=sys.stderr)
        return 2 if isinstance(problem, SettingsError) else 1
    print(f"{count} {unit}", file=sys.stderr)
    return 0


def be_quiet() -> None:
    """Whoever read has enough: Python would complain once more when it closes the terminal's stream."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
