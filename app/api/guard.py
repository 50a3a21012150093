"""Who may let a model work."""

from __future__ import annotations

from typing import Final

from fastapi.security import HTTPBearer
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import Problem
from app.api.unknown import form_of
from app.paths import wants_token

_HOW: Final = "Sign in: POST /api/auth/login gives a token. Send it with each request: Authorization: Bearer TOKEN"

# Tells the OpenAPI document, and so /docs, that a token is wanted; who has none has been answered before.
BEARER: Final = HTTPBearer(auto_error=False, description="The token that `POST /api/auth/login` gives.")


class OnlySignedIn:
    """ASGI middleware that answers 401 where a path `wants_token` and nobody has signed in; nothing of the request is
    read.

    A dependency of the routes would come too late: FastAPI reads and checks the body first. For a server with a login,
    inside of `TokenCheck`, which tells who asks.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not wants_token(scope["path"]) or scope["state"]["identifier"] is not None:
            await self._app(scope, receive, send)
            return
        answer = form_of(scope["path"])(Problem(401, "invalid_api_key", _HOW))
        answer.headers["WWW-Authenticate"] = "Bearer"
        await answer(scope, receive, send)
