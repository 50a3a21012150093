"""Probes: is the server alive, is it ready to answer. Both may be called every second."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from app.default_model import DefaultModelFinder
from app.why import explain

# Readiness is looked up from what is known unless that is older than this, in seconds.
_FRESH: Final = 5.0


def health_routes(finder: DefaultModelFinder) -> APIRouter:
    """`GET /health`: 200 as long as the server runs. `GET /ready`: 200 when the default model is in memory and its
    engine answers, else 503 with the reason.

    Args:
        finder: knows the default model.
    """
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

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
