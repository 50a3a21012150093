"""The series that Prometheus reads, for whom they are meant."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr

from app.api.near import is_near


def metrics_routes(
    registry: CollectorRegistry, token: SecretStr | None, refresh: Callable[[], Awaitable[None]]
) -> APIRouter:
    """`GET /metrics`: the series of a registry in Prometheus' text format.

    Args:
        registry: of the series.
        token: who has it may read; None: who asks from a loopback or private address, and not through a proxy for
            somebody from elsewhere.
        refresh: looks again at what may have changed unnoticed, where nobody else asks.
    """
    routes = APIRouter()

    @routes.get("/metrics")
    async def metrics(request: Request) -> Response:
        if (no := refusal(request, token, "The metrics")) is not None:
            return no
        await refresh()
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes


def refusal(request: Request, token: SecretStr | None, what: str) -> Response | None:
    """The answer to who may not read what only the owner should; None: this one may.

    Args:
        request: whose.
        token: see `metrics_routes`.
        what: is asked for, at the beginning of a sentence.
    """
    if token is not None:
        if _has(request, token.get_secret_value()):
            return None
        words = f"{what} are for those who have the token: Authorization: Bearer METRICS_TOKEN."
        return JSONResponse({"detail": words}, 401, {"WWW-Authenticate": "Bearer"})
    if is_near(request):
        return None
    words = f"{what} answer loopback and private addresses only. Set METRICS_TOKEN to read them from here."
    return JSONResponse({"detail": words}, 403)


def _has(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), token.encode())
