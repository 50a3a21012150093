"""The series that Prometheus reads, for whom they are meant."""

from __future__ import annotations

import secrets
from ipaddress import ip_address
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr

# What proxies tell of those for whom they ask.
_FORWARDED: Final = ("x-forwarded-for", "x-real-ip", "forwarded")


def metrics_routes(registry: CollectorRegistry, token: SecretStr | None) -> APIRouter:
    """`GET /metrics`: the series of a registry in Prometheus' text format.

    Args:
        registry: of the series.
        token: who has it may read; None: who asks from a loopback or private address, and not through a proxy for
            somebody from elsewhere.
    """
    routes = APIRouter()

    @routes.get("/metrics")
    async def metrics(request: Request) -> Response:
        if token is not None:
            if not _has(request, token.get_secret_value()):
                words = "The metrics are for those who have the token: Authorization: Bearer METRICS_TOKEN."
                return JSONResponse({"detail": words}, 401, {"WWW-Authenticate": "Bearer"})
        elif not _is_near(request):
            words = "The metrics answer loopback and private addresses only. Set METRICS_TOKEN to read them from here."
            return JSONResponse({"detail": words}, 403)
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return routes


def _has(request: Request, token: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(given.strip().encode(), token.encode())


def _is_near(request: Request) -> bool:
    """Whether the peer, and all for whom a proxy says that it asks, have addresses that no stranger has.

    The address is the one that uvicorn sees: a proxy's own, or what a trusted one says (TRUSTED_PROXIES). A proxy
    that is not trusted is not believed to be near either: its header must not name anybody from elsewhere.
    """
    addresses = [request.client.host if request.client else ""]
    for name in _FORWARDED:
        for line in request.headers.getlist(name):
            addresses += [part.strip() for part in line.split(",")]
    return all(map(_is_private, addresses))


def _is_private(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return found.is_private or found.is_loopback
