"""Who a browser is, without a login: a random cookie, and the key that signs Chainlit's own."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from pathlib import Path
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
    {"/health", "/ready", "/metrics", "/dashboard", "/api/dashboard", "/docs", "/redoc", "/openapi.json"}
)
_BELOW: Final = ("/ws/", "/docs/", "/dashboard/")
_SECRET_FILE: Final = "secret.key"


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


def new_secret() -> str:
    """A key for this process alone."""
    return secrets.token_urlsafe(_BYTES)


def load_secret(folder: Path) -> str:
    """The key that signs Chainlit's cookie, made once and kept in `folder` for its owner alone.

    Raises:
        OSError: it can be neither read nor made; its text is a sentence that says what to do.
    """
    path = folder / _SECRET_FILE
    try:
        return _make_secret(path)
    except FileExistsError:
        return _kept_secret(path)
    except OSError as problem:
        raise OSError(
            f"cannot write in the data folder {folder.absolute()} ({problem.strerror}). "
            "Give this user the right to, or name another folder: DATA_DIR=/path/to/folder"
        ) from problem


def _make_secret(path: Path) -> str:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        secret = new_secret()
        file.write(secret)
    return secret


def _kept_secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="ascii").strip()
    except OSError as problem:
        raise OSError(
            f"cannot read the key {path.absolute()} ({problem.strerror}). "
            "Give this user the right to, or name another data folder: DATA_DIR=/path/to/folder"
        ) from problem
    except UnicodeDecodeError:
        secret = ""
    if len(secret) < _BYTES:
        raise OSError(
            f"{path.absolute()} holds no key of at least {_BYTES} characters. Delete it, and a new one is made"
        )
    return secret
