"""Probes: is the server alive, is it ready to answer. Both may be called every second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Response

from app.default_model import DefaultModelFinder
from app.storage.unsaved import Unsaved
from app.why import explain

# Readiness is looked up from what is known unless that is older than this, in seconds.
_FRESH: Final = 5.0


def health_routes(finder: DefaultModelFinder, unsaved: Unsaved | None, lost: Callable[[], int]) -> APIRouter:
    """`GET /health`: 200 as long as the server runs, with the state of the database. `GET /ready`: 200 when the default
    model is in memory and its engine answers, else 503 with the reason. A database that is away changes neither: the
    chat goes on.

    Args:
        finder: knows the default model.
        unsaved: knows whether the database takes writes; None: nothing is kept.
        lost: how many writes were not kept.
    """
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> dict[str, Any]:
        if unsaved is None:
            return {"status": "ok", "database": {"state": "off"}}
        since = unsaved.away_since
        database = {
            "state": "ok" if since is None else "away",
            "since": since,
            "waiting": unsaved.waiting,
            "lost": lost(),
        }
        return {"status": "ok", "database": database}

    @routes.get("/ready")
    async def ready(response: Response) -> dict[str, str | None]:
        await finder.look_if_older(_FRESH)
        now = finder.current
        response.status_code = 200 if finder.ready else 503
        return {
            "status": "ready" if finder.ready else "not ready",
            "model": now.model.id if now.model else None,
            "reason": explain(now, finder.wishes, "en").text,
        }

    return routes
