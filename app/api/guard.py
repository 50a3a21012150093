"""Who may let a model work."""

from __future__ import annotations

from fastapi import HTTPException, Request

_HOW = "Sign in: POST /api/auth/login gives a token. Send it with each request: Authorization: Bearer TOKEN"


async def only_signed_in(request: Request) -> None:
    """A dependency of every route that lets a model work, on a server where people sign in.

    Raises:
        HTTPException: 401, the request has no token that is good.
    """
    if request.state.identifier is None:
        raise HTTPException(401, _HOW, {"WWW-Authenticate": "Bearer"})
