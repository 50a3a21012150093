"""Takes tokens that are no longer good out of requests, so that Chainlit answers 401 and its page signs in anew."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.page.standing import Standing
from app.page.tokens import bearer_of, cookies_of, names_of_token, token_in, user_of, without_bearer, without_cookies
from app.page.visitor import COOKIE, is_static, own_name

_GONE: Final = "{name}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax"


class TokenCheck:
    """ASGI middleware. Inside of it `scope["state"]` tells who asks:

    - `identifier`: the visitor, by the browser's cookie or, with a login, by the token; None: nobody we know;
    - `device`: what the browser's own cookie leads to; None: it has none.

    Cookies that are set in answer to a request that came by https are Secure, which Chainlit's own are not.

    Args:
        standing: tells which tokens are good.
    """

    def __init__(self, app: ASGIApp, standing: Standing) -> None:
        self._app = app
        self._standing = standing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or is_static(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = list(scope["headers"])
        cookies = cookies_of(headers)
        own = own_name(cookies.get(COOKIE))
        identifier = None if self._standing.login or own is None else await self._standing.leads_to(own)
        gone: list[str] = []
        carried = names_of_token(cookies)
        user = user_of(token_in(cookies)) if carried else None
        if carried and (user is None or not await self._standing.stands(user, own)):
            gone, user = carried, None
            headers = without_cookies(headers, gone)
        program = user_of(bearer_of(headers)) if user is None else None  # Chainlit, too, looks at the cookie first
        if program is not None:
            if await self._standing.stands(program, own):
                user = program
            else:
                headers = without_bearer(headers)
        if self._standing.login and user is not None:
            identifier = user.identifier
        state = {**scope.get("state", {}), "identifier": identifier, "device": own}
        scope = {**scope, "headers": headers, "state": state}
        secure = scope["scheme"] == "https"

        async def send_with_cookies(message: Message) -> None:
            if message["type"] == "http.response.start" and (gone or secure):
                message = {**message, "headers": _cookies_set(message.get("headers", ()), gone, secure)}
            await send(message)

        await self._app(scope, receive, send_with_cookies if scope["type"] == "http" else send)


def _cookies_set(headers: list[tuple[bytes, bytes]], gone: list[str], secure: bool) -> list[tuple[bytes, bytes]]:
    """An answer's headers that delete the cookies of those names, but for what it sets itself."""
    made = {value.partition(b"=")[0].decode("latin-1") for name, value in headers if name == b"set-cookie"}
    deleted = [(b"set-cookie", _GONE.format(name=name).encode("latin-1")) for name in gone if name not in made]
    headers = [*headers, *deleted]
    if not secure:
        return headers
    return [
        (name, value + b"; Secure" if name == b"set-cookie" and b"; secure" not in value.lower() else value)
        for name, value in headers
    ]
