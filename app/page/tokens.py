"""The tokens that Chainlit signs: where a request carries one, what it says, and how it is taken out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import jwt
from chainlit.auth import create_jwt, decode_jwt, get_token_from_cookies
from chainlit.user import User
from starlette.requests import cookie_parser

from app.storage.accounts import Account, Rights

Headers = Iterable[tuple[bytes, bytes]]

# Chainlit's name for its cookie; a long token is in several, with a number each.
COOKIE: Final = "access_token"
# What a token says of an account besides its name.
_USER, _VERSION = "user", "version"


def user_for(account: Account) -> User:
    """Somebody who has signed in, as a token names them; it is good as long as the account's rights are these."""
    said = {_USER: account.user_id, _VERSION: account.token_version}
    return User(identifier=account.identifier, display_name=account.shown_name, metadata=said)


def token_for(user: User) -> str:
    """A token that names a user."""
    token: str = create_jwt(user)
    return token


def agrees(user: User, rights: Rights | None) -> bool:
    """Whether what a token says is still so.

    The user's id, too: who takes the name of an account that was removed is somebody else.
    """
    if rights is None or rights.disabled:
        return False
    return bool(user.metadata.get(_USER) == rights.user_id and user.metadata.get(_VERSION) == rights.token_version)


def user_of(token: str | None) -> User | None:
    """Who a token names; None if it is not ours, or not any more."""
    try:
        return decode_jwt(token) if token else None
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
        return None


def cookies_of(headers: Headers) -> dict[str, str]:
    """All cookies of a request."""
    found: dict[str, str] = cookie_parser(_cookie_line(headers))
    return found


def token_in(cookies: Mapping[str, str]) -> str | None:
    """The token in a browser's cookies."""
    token: str | None = get_token_from_cookies(dict(cookies))
    return token


def bearer_of(headers: Headers) -> str | None:
    """The token that a program sends."""
    line = next((value for name, value in headers if name == b"authorization"), b"").decode("latin-1")
    scheme, _, token = line.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def without_cookies(headers: Headers, names: Iterable[str]) -> list[tuple[bytes, bytes]]:
    """A request's headers without the cookies of those names."""
    gone = set(names)
    headers = list(headers)
    parts = [part for part in _cookie_line(headers).split(";") if part.partition("=")[0].strip() not in gone]
    others = [header for header in headers if header[0] != b"cookie"]
    return [*others, (b"cookie", ";".join(parts).strip().encode("latin-1"))]


def without_bearer(headers: Headers) -> list[tuple[bytes, bytes]]:
    """A request's headers without the token that a program sends."""
    return [header for header in headers if header[0] != b"authorization"]


def names_of_token(cookies: Iterable[str]) -> list[str]:
    """Those of the cookies that hold a token, or a part of one."""
    return [name for name in cookies if name == COOKIE or name.startswith(f"{COOKIE}_")]


def _cookie_line(headers: Any) -> str:
    return b"; ".join(value for name, value in headers if name == b"cookie").decode("latin-1")
