"""What can be wrong with a database, in one line."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as NoConnectionInTime

# https://www.postgresql.org/docs/current/errcodes-appendix.html: connection, resources, the operator's doing.
_POSTGRES_AWAY: Final = ("08", "53", "57")
# https://www.sqlite.org/rescode.html: busy, locked, read-only, disk error, full, cannot be opened.
_SQLITE_AWAY: Final = (5, 6, 8, 10, 13, 14)
_SQLITE_READ_ONLY: Final = 8


class DatabaseAway(Exception):
    """The database does not answer or takes nothing now; later it may. The message is one line."""


class DatabaseRefused(Exception):
    """The database answers and cannot be used as it is. The message is one line."""


def reason(problem: BaseException) -> str:
    """What went wrong, in the database's own words: one line, without values and without SQL."""
    inner: BaseException = problem.orig or problem if isinstance(problem, DBAPIError) else problem
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    # Of a system's error its words, without the number that is another on each system.
    text = (inner.strerror if isinstance(inner, OSError) and inner.strerror else str(inner)).strip()
    return text.splitlines()[0] if text else type(inner).__name__


def is_away(problem: BaseException) -> bool:
    """Whether this error tells that the database is out of reach or takes nothing now, and may later."""
    if isinstance(problem, OSError):
        # PermissionError is also what a visitor gets who asks for another's conversation.
        return not isinstance(problem, PermissionError)
    if isinstance(problem, NoConnectionInTime):
        return True
    if not isinstance(problem, DBAPIError):
        return False
    state = getattr(problem.orig, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_POSTGRES_AWAY)
    code = getattr(problem.orig, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF in _SQLITE_AWAY
    return problem.connection_invalidated or isinstance(problem, InterfaceError)


def is_read_only(problem: BaseException) -> bool:
    """Whether SQLite may not write into its file. A connection that was opened so stays so, also when it may again."""
    code = getattr(getattr(problem, "orig", None), "sqlite_errorcode", None)
    return code is not None and code & 0xFF == _SQLITE_READ_ONLY
