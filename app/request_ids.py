"""Every request has an id: its answer carries it, and so do the log's lines about it."""

from __future__ import annotations

import logging
import re
from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.storage.texts import new_id

NAME: Final = "X-Request-ID"
# Of the request, or the page's message, that is being worked on.
REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="-")

_HEADER: Final = NAME.lower().encode("ascii")
_TAKEN: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """ASGI middleware, the outermost: `scope["state"]["request_id"]`, the client's own where it is a plain word."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        sent = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        request_id = sent.decode("ascii") if _TAKEN.fullmatch(sent) else new_id()
        # Not taken back: the ASGI server logs what nobody has caught when we have ended. Each request is a task of its
        # own there.
        REQUEST_ID.set(request_id)
        header = (_HEADER, request_id.encode("ascii"))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        scope = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}
        await self._app(scope, receive, send_with_id if scope["type"] == "http" else send)


class WithRequestId(logging.Filter):
    """Gives each line of the log `%(request_id)s`; `-` where it is about no request."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        record.request_id = REQUEST_ID.get()
        return True
