"""Probes: is the server alive, is it ready to answer. Both may be called every second."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Literal

from fastapi import APIRouter, Request, Response

from app import __version__
from app.api.health_schemas import DatabaseHealth, DefaultModelHealth, EngineHealth, Health, ProcessHealth, Readiness
from app.api.near import is_near
from app.chat import Chat
from app.default_model import DefaultModelFinder
from app.engines.catalog import Catalog, EngineState
from app.memory import program_bytes
from app.storage.database import Database
from app.storage.problems import DatabaseAway, DatabaseRefused
from app.storage.threads import Threads
from app.storage.unsaved import Unsaved, away_since
from app.why import explain

log = logging.getLogger(__name__)

# Readiness is looked up from what is known unless that is older than this, in seconds.
_FRESH: Final = 5.0
# So long a probe waits for news, in seconds; then it tells what is known.
_PATIENCE: Final = 0.5


class Fresh:
    """Looks again when what is known is too old, in the background: who wants to know never waits long.

    Args:
        look: finds it out; not called twice at once.
        age: seconds since that was done; None: it never was.
        most: how old it may become.
    """

    def __init__(self, look: Callable[[], Awaitable[object]], age: Callable[[], float | None], most: float) -> None:
        self._look = look
        self._age = age
        self._most = most
        self._task: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Return when it is known, or soon: who comes while it is being looked at does not wait, if it was known."""
        age = self._age()
        if age is not None and age <= self._most:
            return
        running = self._task is not None and not self._task.done()
        if not running:
            self._task = asyncio.create_task(self._run())
        if self._task is not None and not (running and age is not None):
            await asyncio.wait({self._task}, timeout=_PATIENCE)

    async def _run(self) -> None:
        try:
            await self._look()
        except Exception:
            log.exception("HEALTH what is known could not be refreshed")


def refreshing(catalog: Catalog, database: Database | None, max_age: float) -> Callable[[], Awaitable[None]]:
    """What looks again at the engines and the database where that was done more than `max_age` seconds ago."""
    fresh = [Fresh(catalog.everything, lambda: _oldest(catalog), max_age)]
    if database is not None:
        fresh.append(Fresh(lambda: _reach(database), lambda: database.age, max_age))

    async def refresh() -> None:
        await asyncio.gather(*(one.refresh() for one in fresh))

    return refresh


def health_routes(
    chat: Chat,
    finder: DefaultModelFinder,
    database: Database | None,
    unsaved: Unsaved | None,
    *,
    lost: Callable[[], int],
    urls: Mapping[str, str],
    missed: Callable[[EngineState], bool],
    max_age: float,
) -> APIRouter:
    """`GET /health`: 200 as long as the server runs, with the state of its parts. `GET /ready`: 200 when the default
    model is in memory and its engine answers, else 503 with the reason. A database that is away changes neither: the
    chat goes on.

    Args:
        chat: knows the engines, and what they work on.
        finder: knows the default model.
        database: None: nothing is kept.
        unsaved: knows whether the database takes writes; None: no conversations are kept.
        lost: how many writes were not kept.
        urls: where engines are asked, by their names; shown to those alone who are near.
        missed: whether an engine that is away is one that should be there.
        max_age: seconds that a probe takes what is known for true before engines and database are asked again.
    """
    routes = APIRouter(tags=["Health"])
    began = time.monotonic()
    catalog = chat.catalog
    refresh = refreshing(catalog, database, max_age)

    def process() -> ProcessHealth:
        return ProcessHealth(
            version=__version__,
            pid=os.getpid(),
            uptime_seconds=round(time.monotonic() - began, 1),
            memory_bytes=program_bytes(),
            replies=chat.serving,
            waiting=chat.waiting,
        )

    def kept() -> DatabaseHealth:
        if database is None:
            return DatabaseHealth(status="off", state="off", since=None, waiting=0, lost=0, age_seconds=None)
        since = away_since(database, unsaved)
        state: Literal["ok", "away"] = "away" if since else "ok"
        waiting = unsaved.waiting if unsaved is not None else 0
        return DatabaseHealth(
            status=state, state=state, since=since, waiting=waiting, lost=lost(), age_seconds=_rounded(database.age)
        )

    # Some that watch servers ask for no more than the status.
    @routes.head("/health", include_in_schema=False)
    @routes.get("/health", summary="How everything is")
    async def health(request: Request) -> Health:
        """200 as long as the server runs. What is told of engines and database may be some seconds old, see
        `age_seconds`: they are not asked for each probe."""
        near = is_near(request)
        await refresh()
        states, model, stored = catalog.states(), _default_model(finder), kept()
        lacking = explain(finder.current, finder.wishes, "en").level == "warning"
        degraded = lacking or stored.state == "away" or any(state.problem and missed(state) for state in states)
        return Health(
            status="degraded" if degraded else "ok",
            process=process(),
            engines=[_engine(state, urls.get(state.name), near=near) for state in states],
            database=stored,
            default_model=model,
        )

    @routes.head("/ready", include_in_schema=False)
    @routes.get(
        "/ready",
        summary="Whether a reply can begin",
        responses={503: {"model": Readiness, "description": "It cannot yet, or not at the moment."}},
    )
    async def ready(response: Response) -> Readiness:
        """200 when the default model is in memory and its engine answers, else 503."""
        await finder.look_if_older(_FRESH)
        now = finder.current
        response.status_code = 200 if finder.ready else 503
        return Readiness(
            status="ready" if finder.ready else "not ready",
            model=now.model.id if now.model else None,
            reason=explain(now, finder.wishes, "en").text,
        )

    return routes


def _oldest(catalog: Catalog) -> float | None:
    """How old the oldest knowledge of an engine is; None: there is one that was never asked."""
    ages = [state.age for state in catalog.states()]
    known = [age for age in ages if age is not None]
    return max(known, default=0.0) if len(known) == len(ages) else None


async def _reach(database: Database) -> None:
    with suppress(DatabaseAway, DatabaseRefused):  # the database knows it then
        await Threads(database).reach()


def _engine(state: EngineState, url: str | None, *, near: bool) -> EngineHealth:
    """`near`: whether who asks may know where it is; the sentence of an error tells that too."""
    away = state.problem is not None
    return EngineHealth(
        name=state.name,
        label=state.label,
        status="away" if away else "unknown" if state.age is None else "up",
        url=url if near else None,
        models=state.models,
        error=None if state.problem is None else state.problem.sentence("en") if near else state.problem.code,
        age_seconds=_rounded(state.age),
    )


def _default_model(finder: DefaultModelFinder) -> DefaultModelHealth:
    now = finder.current
    status: Literal["loaded", "loading", "unloaded", "missing"] = "unloaded"
    if now.model is None or now.away is not None:
        status = "missing"
    elif now.loading:
        status = "loading"
    elif now.loaded or now.model.loaded:
        status = "loaded"
    return DefaultModelHealth(
        id=now.model.id if now.model else None,
        status=status,
        reason=explain(now, finder.wishes, "en").text,
        age_seconds=_rounded(finder.age),
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
