"""Who a browser is, without a login: a random cookie."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Final

from chainlit.user import User
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.paths import is_for_programs

COOKIE: Final = "visitor"
_YEAR: Final = 365 * 24 * 3600
_BYTES: Final = 32  # 256 bits
_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
# What is the same for everybody.
_FILES: Final = frozenset({"/favicon", "/logo"})
_FOLDERS: Final = ("/public/", "/assets/")
# Where else nobody is a visitor: sockets that exist already, and what watches this server.
_WITHOUT: Final = frozenset(
    {
        "/health",
        "/ready",
        "/metrics",
        "/debug/tasks",
        "/dashboard",
        "/api/dashboard",
        "/docs",
        "/redoc",
        "/openapi.json",
    }
)
_BELOW: Final = ("/ws/", "/docs/", "/dashboard/")


def is_static(path: str) -> bool:
    """Whether a path is answered with the same to everybody."""
    return path in _FILES or path.startswith(_FOLDERS)


def _has_visitors(path: str) -> bool:
    return not (is_static(path) or path in _WITHOUT or path.startswith(_BELOW) or is_for_programs(path))


def cookie_of(header: str | None) -> str | None:
    """The visitor's cookie in a Cookie header; None if there is none of the form that we make."""
    # Not http.cookies: it gives up on the whole header where another program on this host has set an odd cookie.
    found = cookie_parser(header or "").get(COOKIE, "")
    return found if _VALUE.fullmatch(found) else None


def visitor_of(cookie: str) -> str:
    """The visitor's name in the database. The cookie itself is a secret and is kept nowhere."""
    return "anon-" + sha256(cookie.encode("ascii")).hexdigest()


def own_name(cookie: str | None) -> str | None:
    """What a browser's cookie leads to; None if it is not of the form that we make."""
    return visitor_of(cookie) if cookie is not None and _VALUE.fullmatch(cookie) else None


def visitor_from_headers(
    leads_to: Callable[[str], Awaitable[str]],
) -> Callable[[Mapping[str, str]], Awaitable[User | None]]:
    """Chainlit's `header_auth_callback`: whose history a browser shows; None where VisitorCookie was not in the way.

    Args:
        leads_to: from what the browser's own cookie leads to to the visitor whose history that is.
    """

    async def visitor(headers: Mapping[str, str]) -> User | None:
        cookie = cookie_of(headers.get("cookie"))
        return User(identifier=await leads_to(visitor_of(cookie)), display_name="") if cookie else None

    return visitor


class VisitorCookie:
    """ASGI middleware that gives every browser a cookie, which the very same request already carries onwards.

    The cookie is Secure where the request came by https; behind a proxy that is for the ASGI server to find out, which
    trusts `X-Forwarded-Proto` only from the addresses that it is told to (TRUSTED_PROXIES).

    Args:
        lasting: for a year; else until the browser is closed, where it only tells one browser's connections from
            another's.
    """

    def __init__(self, app: ASGIApp, *, lasting: bool = True) -> None:
        self._app = app
        self._age = f"Max-Age={_YEAR}; " if lasting else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _has_visitors(scope["path"]):
            await self._app(scope, receive, send)
            return
        sent = b"; ".join(value for name, value in scope["headers"] if name == b"cookie").decode("latin-1")
        if cookie_of(sent) is not None:
            await self._app(scope, receive, send)
            return
        cookie = secrets.token_urlsafe(_BYTES)
        others = [header for header in scope["headers"] if header[0] != b"cookie"]
        # Of two cookies of one name the last counts, see cookie_parser: an unusable one does no harm.
        line = f"{sent}; {COOKIE}={cookie}" if sent else f"{COOKIE}={cookie}"
        secure = "; Secure" if scope["scheme"] == "https" else ""
        attributes = f"{COOKIE}={cookie}; HttpOnly; {self._age}Path=/; SameSite=Lax{secure}"

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"set-cookie", attributes.encode("ascii"))]}
            await send(message)

        scope = {**scope, "headers": [*others, (b"cookie", line.encode("latin-1"))]}
        await self._app(scope, receive, send_with_cookie)
