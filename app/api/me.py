"""`GET /api/me`: who asks, and what there is of theirs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from app.storage.accounts import Accounts
from app.storage.devices import Devices
from app.storage.records import Visitor
from app.storage.threads import Threads
from app.storage.visitors import Visitors

# A visitor's metadata: has said that the conversations of this browser stay with it.
LEFT_BEHIND = "left_behind"


class Belongings:
    """What there is of visitors.

    Args:
        threads: the conversations.
        visitors: who has them.
    """

    def __init__(self, threads: Threads, visitors: Visitors) -> None:
        self._threads = threads
        self._visitors = visitors

    async def conversations(self, visitor: Visitor | None) -> int:
        """How many conversations a visitor has."""
        return await self._threads.count(visitor.id) if visitor else 0

    async def waiting(self, request: Request) -> int:
        """How many conversations of the asker's browser could be taken along to who asks."""
        own = await self.own(request)
        return 0 if own is None or own.metadata.get(LEFT_BEHIND) else await self.conversations(own)

    async def own(self, request: Request) -> Visitor | None:
        """The visitor that the asker's browser was by itself; None: it still is, or never was one."""
        device: str | None = request.state.device
        if device is None or device == request.state.identifier:
            return None
        return await self._visitors.get(device)

    async def take_along(self, request: Request, to: Visitor) -> int:
        """The conversations of the asker's browser become those of who asks; returns how many."""
        own = await self.own(request)
        return await self._threads.move(own.id, to.id) if own else 0

    async def leave_behind(self, request: Request) -> None:
        """They stay where they are, and nobody asks again."""
        own = await self.own(request)
        if own is not None:
            await self._visitors.add(own.identifier, {LEFT_BEHIND: True})


def me_routes(
    accounts: Accounts,
    visitors: Visitors,
    devices: Devices,
    belongings: Belongings,
    *,
    login: bool,
    signup: bool,
    password_min: int,
    history: bool,
) -> APIRouter:
    """`GET /api/me`; nobody signed in is an answer, too.

    Args:
        accounts, visitors, devices: who may ask.
        belongings: what there is of theirs.
        login: people sign in.
        signup: people may make accounts themselves.
        password_min: characters that a password needs.
        history: conversations are kept.
    """
    routes = APIRouter()

    @routes.get("/api/me")
    async def me(request: Request) -> dict[str, Any]:
        identifier: str | None = request.state.identifier
        answer: dict[str, Any] = {
            "name": None,
            "kind": None,
            "role": None,
            "signup": signup,
            "password_min": password_min,
            "history": history,
            "conversations": 0,
            "joined": False,
            "waiting": 0,
            "devices": [],
            "links": [],
        }
        if identifier is None:
            return answer
        visitor = await visitors.get(identifier)
        counts = {
            "conversations": await belongings.conversations(visitor),
            "waiting": await belongings.waiting(request),
        }
        if login:
            account = await accounts.find(identifier)
            if account is None:
                return answer
            kind = "oauth" if account.by_provider else "account"
            return answer | counts | {"name": account.shown_name, "kind": kind, "role": account.role}
        joined = [] if visitor is None else await devices.of(visitor.id)
        made = [] if visitor is None else await devices.links_of(visitor.id)
        return (
            answer
            | counts
            | {
                "kind": "anonymous",
                "joined": request.state.device != identifier,
                "devices": [
                    {
                        "id": device.id,
                        "name": device.name,
                        "joined_at": device.joined_at,
                        "this": device.identifier == request.state.device,
                    }
                    for device in joined
                ],
                "links": [
                    {"id": link.id, "created_at": link.created_at, "expires_at": link.expires_at} for link in made
                ],
            }
        )

    return routes
