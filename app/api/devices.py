"""Personal links: the same conversations in another browser, without a login."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final

from chainlit.auth import set_auth_cookie
from chainlit.user import User
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.background import BackgroundTask

from app.api.me import Belongings
from app.api.refused import Refused
from app.api.signed_in import SignedIn
from app.page.login import origin_of
from app.page.open_pages import OpenPages
from app.page.standing import Standing
from app.page.tokens import token_for
from app.storage.devices import Devices, LinkUnknown, OwnLink, TooMany
from app.tries import Tries

_BYTES: Final = 32  # 256 bits
_CODE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
# The name of the limit; no account can be called so.
_JOIN: Final = "join:"
# As they name themselves; the first that is found counts, since most name others, too.
_BROWSERS: Final = ("Edg", "OPR", "YaBrowser", "Firefox", "FxiOS", "CriOS", "Chrome", "Safari")
_SYSTEMS: Final = ("Android", "iPhone", "iPad", "Windows", "Macintosh", "CrOS", "Linux")
_NAMES: Final = {
    "Edg": "Edge",
    "OPR": "Opera",
    "YaBrowser": "Yandex Browser",
    "FxiOS": "Firefox",
    "CriOS": "Chrome",
    "Macintosh": "macOS",
    "CrOS": "ChromeOS",
}


class Code(BaseModel):
    """What a personal link holds."""

    code: str


class Choice(BaseModel):
    """Whether the browser's own conversations are taken along."""

    take: bool


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of personal links.

    Attributes:
        link_days: how long one can be opened.
        max_links: that a visitor may have.
        max_devices: that may show one visitor's history.
    """

    link_days: int
    max_links: int
    max_devices: int


def device_routes(
    devices: Devices, belongings: Belongings, standing: Standing, pages: OpenPages, tries: Tries, bounds: Bounds
) -> APIRouter:
    """`/api/me/links`, `/api/me/join`, `/api/me/devices`; and `/api/me/adopt`, which is for a login, too.

    Args:
        devices: links and browsers.
        belongings: what there is of visitors.
        standing: is told that a browser shows another history.
        pages: those with the history of before are closed.
        tries: how often a code may be tried.
        bounds: of links.
    """
    routes = APIRouter(prefix="/api/me")

    def no_login() -> None:
        """With a login the same conversations are wherever one signs in."""
        if standing.login:
            raise Refused("no_links")

    def owners(request: Request) -> None:
        """A browser that joined could let in whom its owner does not know, or shut the owner's others out."""
        if request.state.device != request.state.identifier:
            raise Refused("not_the_owner")

    without_login = [Depends(no_login)]
    by_the_owner = [*without_login, Depends(owners)]

    @routes.post("/links", status_code=201, dependencies=by_the_owner)
    async def make_link(visitor: SignedIn) -> dict[str, str]:
        code = secrets.token_urlsafe(_BYTES)
        ends = (datetime.now(UTC) + timedelta(days=bounds.link_days)).isoformat(timespec="microseconds")
        try:
            link = await devices.make_link(visitor.id, _hash(code), ends, bounds.max_links)
        except TooMany:
            raise Refused("too_many_links", most=bounds.max_links) from None
        return {"id": link.id, "code": code, "expires_at": link.expires_at}

    @routes.delete("/links/{link_id}", status_code=204, dependencies=by_the_owner)
    async def revoke_link(visitor: SignedIn, link_id: str) -> None:
        if not await devices.revoke_link(visitor.id, link_id):
            raise Refused("not_found")

    @routes.post("/join", dependencies=without_login)
    async def join(request: Request, wanted: Code) -> Response:
        own: str | None = request.state.device
        if own is None:
            raise Refused("not_signed_in")
        await tries.count_action(origin_of(request).address, _JOIN)
        name = browser_name(request.headers.get("user-agent"))
        try:
            if not _CODE.fullmatch(wanted.code):
                raise LinkUnknown
            await devices.join(_hash(wanted.code), own, name, bounds.max_devices)
        except LinkUnknown:
            raise Refused("bad_code") from None
        except OwnLink:
            raise Refused("own_link") from None
        except TooMany:
            raise Refused("too_many_devices", most=bounds.max_devices) from None
        standing.forget()
        request.state.identifier = await standing.leads_to(own)
        answer = {"waiting": await belongings.waiting(request)}
        response = JSONResponse(answer, background=BackgroundTask(pages.close_fallen, own))
        return shows(request, response, request.state.identifier)

    @routes.delete("/devices/{device_id}", dependencies=without_login)
    async def send_away(request: Request, visitor: SignedIn, device_id: str) -> Response:
        own: str | None = request.state.device
        if own is None or own == visitor.identifier:
            if not await devices.send_away(visitor.id, device_id):
                raise Refused("not_found")
        elif not await devices.leave(visitor.id, device_id, own):
            raise Refused("not_the_owner")
        standing.forget()
        response = Response(status_code=204, background=BackgroundTask(pages.close_fallen))
        left = own is not None and visitor.identifier != await standing.leads_to(own)
        return shows(request, response, own) if left and own is not None else response

    @routes.post("/adopt")
    async def adopt(request: Request, visitor: SignedIn, choice: Choice) -> dict[str, int]:
        if choice.take:
            return {"moved": await belongings.take_along(request, visitor)}
        await belongings.leave_behind(request)
        return {"moved": 0}

    return routes


def browser_name(user_agent: str | None) -> str:
    """What a browser says it is, in a few words: `Firefox, Android`."""
    said = user_agent or ""
    found = [next((word for word in words if word in said), None) for words in (_BROWSERS, _SYSTEMS)]
    return ", ".join(_NAMES.get(word, word) for word in found if word) or "?"


def shows(request: Request, response: Response, identifier: str) -> Response:
    """An answer after which its browser has that visitor's conversations."""
    set_auth_cookie(request, response, token_for(User(identifier=identifier, display_name="")))
    return response


def _hash(code: str) -> str:
    return sha256(code.encode("utf-8", "replace")).hexdigest()
