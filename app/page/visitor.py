"""Who a browser is, without a login: a random cookie, and the key that signs Chainlit's own."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Mapping
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Final

from chainlit.user import User
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "visitor"
_YEAR: Final = 365 * 24 * 3600
_BYTES: Final = 32  # 256 bits
_VALUE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_STATIC: Final = ("/public/", "/assets/", "/favicon", "/logo")
_SECRET_FILE: Final = "secret.key"


def cookie_of(header: str | None) -> str | None:
    """The visitor's cookie in a Cookie header; None if there is none of the form that we make."""
    try:
        found = SimpleCookie(header or "").get(COOKIE)
    except CookieError:
        return None
    return found.value if found and _VALUE.fullmatch(found.value) else None


def visitor_of(cookie: str) -> str:
    """The visitor's name in the database. The cookie itself is a secret and is kept nowhere."""
    return "anon-" + sha256(cookie.encode("ascii")).hexdigest()


async def visitor_from_headers(headers: Mapping[str, str]) -> User | None:
    """Chainlit's `header_auth_callback`."""
    cookie = cookie_of(headers.get("cookie"))
    return User(identifier=visitor_of(cookie), display_name="") if cookie else None


class VisitorCookie:
    """ASGI middleware that gives every browser a cookie, which the very same request already carries onwards."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_STATIC) or scope["path"].startswith("/ws/"):
            await self._app(scope, receive, send)
            return
        sent = b"; ".join(value for name, value in scope["headers"] if name == b"cookie").decode("latin-1")
        if cookie_of(sent) is not None:
            await self._app(scope, receive, send)
            return
        cookie = secrets.token_urlsafe(_BYTES)
        others = [header for header in scope["headers"] if header[0] != b"cookie"]
        # An unusable cookie of that name must not come before the new one.
        kept = "; ".join(part for part in sent.split("; ") if part and not part.startswith(f"{COOKIE}="))
        line = f"{kept}; {COOKIE}={cookie}" if kept else f"{COOKIE}={cookie}"
        secure = "; Secure" if scope["scheme"] == "https" else ""
        attributes = f"{COOKIE}={cookie}; HttpOnly; Max-Age={_YEAR}; Path=/; SameSite=Lax{secure}"

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"set-cookie", attributes.encode("ascii"))]}
            await send(message)

        scope = {**scope, "headers": [*others, (b"cookie", line.encode("latin-1"))]}
        await self._app(scope, receive, send_with_cookie)


def load_secret(folder: Path) -> str:
    """The key that signs Chainlit's cookie, made once and kept in `folder` for its owner alone.

    Raises:
        OSError: it can be neither read nor made.
    """
    path = folder / _SECRET_FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        secret = path.read_text(encoding="ascii").strip()
        if len(secret) >= _BYTES:
            return secret
        raise OSError(f"{path} holds no key of at least {_BYTES} characters; delete it, a new one is made") from None
    with os.fdopen(handle, "w", encoding="ascii") as file:
        secret = secrets.token_urlsafe(_BYTES)
        file.write(secret)
    return secret
