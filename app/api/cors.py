"""Other sites' pages may ask the API, where the server's owner has named them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.sse import LEFT_OUT
from app.paths import is_for_other_sites
from app.request_ids import NAME

_METHODS: Final = ("GET", "POST")
# What a page may read of an answer beside its body.
_EXPOSED: Final = (NAME, "Retry-After", LEFT_OUT)


class ApiCors:
    """ASGI middleware: Starlette's, for the paths of the API alone, and never with cookies. See also CrossSite.

    Args:
        origins: of the sites, or `*`.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=tuple(origins),
            allow_methods=_METHODS,
            # Whatever is asked for: Authorization, X-API-Key, and what clients say of themselves.
            allow_headers=("*",),
            allow_credentials=False,
            expose_headers=_EXPOSED,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and is_for_other_sites(scope["path"])
        await (self._cors if asked else self._app)(scope, receive, send)
