"""Other sites' pages may link to this server and no more."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

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
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not _changes(scope) or _is_own(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            refused = JSONResponse({"detail": "Another site's page may not do that.", "code": "cross_site"}, 403)
            await refused(scope, receive, send)
        else:
            await WebSocketClose(1008)(scope, receive, send)


def _changes(scope: Scope) -> bool:
    path: str = scope["path"]
    if scope["type"] == "websocket" or path.startswith(_SOCKET):
        return True
    return scope["method"] not in _READS and not path.startswith(_PROVIDERS)


def _is_own(scope: Scope) -> bool:
    site = Headers(scope=scope).get("sec-fetch-site")
    return site is None or site in _OWN
