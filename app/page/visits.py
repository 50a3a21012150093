"""The visits of all open pages. Each hangs on its session of Chainlit's, so that it lives exactly as long."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from chainlit.session import WebsocketSession, ws_sessions_id

from app.page.visit import Visit

# The attribute of a session that holds its visit.
_VISIT: Final = "_chainlit_ollama_visit"
# Longest wait for replies to be stored after they were stopped, in seconds.
_STOP_WAIT: Final = 3.0


def visit_of(session: object) -> Visit | None:
    """The visit of a session, if it has one."""
    return getattr(session, _VISIT, None)


def give(session: WebsocketSession, visit: Visit) -> None:
    """Make it the session's visit; the one that had it before has none then."""
    if visit_of(visit.session) is visit:
        delattr(visit.session, _VISIT)
    setattr(session, _VISIT, visit)


def visitor_of(visit: Visit) -> str:
    """The identifier of who visits; empty where nobody is known."""
    user = visit.session.user
    return user.identifier if user is not None else ""


def all_visits() -> list[Visit]:
    """Those of all sessions that Chainlit knows."""
    return [visit for session in list(ws_sessions_id.values()) if (visit := visit_of(session)) is not None]


def visits_to(thread_id: str, identifier: str) -> list[Visit]:
    """A visitor's visits to a conversation."""
    return [visit for visit in all_visits() if visit.session.thread_id == thread_id and visitor_of(visit) == identifier]


async def stop(visits: Iterable[Visit]) -> None:
    """Stop the replies that are being written there, and wait until they are stored."""
    tasks = [visit.answering for visit in visits if visit.answering is not None]
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_STOP_WAIT)
