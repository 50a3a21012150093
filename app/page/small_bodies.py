"""Bodies of requests that anybody may send are small: they are read before it is known whose they are."""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MOST: Final = 16_384  # bytes
_SMALL: Final = ("/login", "/logout", "/auth/", "/api/auth/", "/api/me/join", "/api/me/adopt", "/api/me/links")


class SmallBodies:
    """ASGI middleware that answers 413 where more is sent than signing in takes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(_SMALL):
            await self._app(scope, receive, send)
            return
        read: list[Message] = []
        size, more = 0, True
        while more:
            message = await receive()
            read.append(message)
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
            if size > _MOST:
                answer = {"detail": f"That is too much: at most {_MOST:,} bytes.", "code": "too_large"}
                await JSONResponse(answer, 413)(scope, receive, send)
                return

        async def again() -> Message:
            return read.pop(0) if read else await receive()

        await self._app(scope, again, send)
