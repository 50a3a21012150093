"""Other sites' pages may link to this server and no more."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from app.paths import is_for_other_sites

_READS: Final = ("GET", "HEAD", "OPTIONS")
# "none": the browser's user has asked, by a bookmark or the address line. https://www.w3.org/TR/fetch-metadata/
_OWN: Final = ("same-origin", "none")
_SOCKET: Final = "/ws/"
# A provider has the browser send a form here, signed by a state of our own.
_PROVIDERS: Final = "/auth/oauth/"


class CrossSite:
    """ASGI middleware that answers 403 where a browser says that another site's page asks for a change, or for a
    connection. SameSite cookies keep out other sites, but not another page of the same host on another port.

    Programs, and browsers from before 2023, say nothing of that kind and are let through.

    Args:
        origins: of sites that may ask the API, without the browser's cookies; `*` for all. See also ApiCors.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str] = ()) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not _changes(scope) or _is_own(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and is_for_other_sites(scope["path"]) and self._is_named(scope):
            headers = [header for header in scope["headers"] if header[0] != b"cookie"]
            await self._app({**scope, "headers": headers}, receive, send)
        elif scope["type"] == "http":
            refused = JSONResponse({"detail": "Another site's page may not do that.", "code": "cross_site"}, 403)
            await refused(scope, receive, send)
        else:
            await WebSocketClose(1008)(scope, receive, send)

    def _is_named(self, scope: Scope) -> bool:
        return "*" in self._origins or Headers(scope=scope).get("origin") in self._origins


def _changes(scope: Scope) -> bool:
    path: str = scope["path"]
    if scope["type"] == "websocket" or path.startswith(_SOCKET):
        return True
    return scope["method"] not in _READS and not path.startswith(_PROVIDERS)


def _is_own(scope: Scope) -> bool:
    site = Headers(scope=scope).get("sec-fetch-site")
    return site is None or site in _OWN
