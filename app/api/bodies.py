"""Bodies of requests have a bound: they are read before it is known whose they are."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import Problem
from app.api.refused import Refused, asked_language
from app.api.unknown import form_of

# What signing in takes at most, in bytes, and where.
_SIGN_IN: Final = 16_384
_SIGNING_IN: Final = ("/login", "/logout", "/auth/", "/api/auth/", "/api/me/join", "/api/me/adopt", "/api/me/links")
_SOCKETS: Final = "/ws/"
# Reads piece by piece, when it is known whose it is, and has a bound of its own: IMPORT_MAX_MB.
_IN_PIECES: Final = "/api/me/import"


class BoundedBodies:
    """ASGI middleware that answers 413 where more is sent than a path takes; nothing of it is parsed.

    Args:
        most: of any path, in bytes.
        most_of_sockets: of what a page sends by long polling, in bytes.
    """

    def __init__(self, app: ASGIApp, most: int, most_of_sockets: int) -> None:
        self._app = app
        self._most = most
        self._most_of_sockets = most_of_sockets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == _IN_PIECES:
            await self._app(scope, receive, send)
            return
        most = self._bound(scope["path"])
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            await _refuse(most, scope, receive, send)
            return
        # One piece, not a list of all: each of a million small ones would take more than its bytes.
        body, more = bytearray(), True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > most:
                await _refuse(most, scope, receive, send)
                return
        again = first_then({"type": "http.request", "body": bytes(body), "more_body": False}, receive)
        del body
        await self._app(scope, again, send)

    def _bound(self, path: str) -> int:
        if path.startswith(_SIGNING_IN):
            return min(_SIGN_IN, self._most)
        return self._most_of_sockets if path.startswith(_SOCKETS) else self._most


def first_then(message: Message, receive: Receive) -> Receive:
    """What receives a message that was read already, and then what follows."""
    first: Message | None = message

    async def again() -> Message:
        nonlocal first
        if first is None:
            return await receive()
        read, first = first, None
        return read

    return again


async def _refuse(most: int, scope: Scope, receive: Receive, send: Send) -> None:
    refused = Refused("request_too_large", limit=f"{most:,}")
    sentence = refused.sentence(asked_language(Headers(scope=scope).get("accept-language")))
    answer = form_of(scope["path"])(Problem(refused.status, refused.code, sentence))
    await answer(scope, receive, send)
