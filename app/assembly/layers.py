"""What every request passes on its way to a route, and every answer on its way back."""

from __future__ import annotations

import logging

import chainlit.server as chainlit_server
from fastapi import FastAPI, Request
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.responses import Response

from app.account_errors import AccountError
from app.api.bodies import BoundedBodies
from app.api.cors import ApiCors
from app.api.depth import ShallowJson
from app.api.guard import Guard
from app.api.refused import Refused, account_refusal, refusal
from app.api.unknown import broken
from app.keys import Keys
from app.page.closed import ClosedPaths
from app.page.cross_site import CrossSite
from app.page.headers import SecurityHeaders
from app.page.sockets import SocketGuard
from app.page.standing import Standing
from app.page.token_check import TokenCheck
from app.page.visitor import VisitorCookie
from app.request_ids import RequestIds
from app.settings import Settings
from app.storage.problems import DatabaseAway
from app.tries import Tries

log = logging.getLogger(__name__)


def add_layers(app: FastAPI, settings: Settings, standing: Standing, tries: Tries) -> None:
    """Put the middlewares around an app, the innermost first.

    Args:
        app: has all its routes.
        settings: of the server.
        standing: which tokens are good.
        tries: how often keys may be guessed.
    """
    app.add_middleware(ShallowJson, most=settings.max_json_depth)
    for key in settings.keys:
        if key.is_weak:
            log.warning("AUTH the key %s can be guessed: better take one of openssl rand -hex 16", key.name)
    if settings.guarded:
        app.add_middleware(Guard, keys=Keys(settings.keys), login=settings.login, tries=tries)
    app.add_middleware(TokenCheck, standing=standing)
    app.add_middleware(VisitorCookie, lasting=settings.history)
    app.add_middleware(SocketGuard, sio=chainlit_server.sio)
    app.add_middleware(BoundedBodies, most=settings.max_body_bytes, most_of_sockets=2 * settings.max_message_bytes)
    app.add_middleware(CrossSite, origins=settings.origins)
    app.add_middleware(ClosedPaths)
    # As a handler of the app's it would answer outside of the headers.
    app.add_middleware(ServerErrorMiddleware, handler=broken)
    if settings.origins:
        app.add_middleware(ApiCors, origins=settings.origins)
    app.add_middleware(SecurityHeaders, frame_ancestors=settings.frame_ancestors)
    app.add_middleware(RequestIds)


def add_refusals(app: FastAPI) -> None:
    """Say what is refused in the words of the one who asked, on our routes and on Chainlit's."""

    async def database_away(request: Request, problem: Exception) -> Response:
        """What a visitor asks of the database itself: the list, an old conversation, a new name, a thumb."""
        # The route, not the path: whose conversation it is about is nobody's business.
        route = getattr(request.scope.get("route"), "path", "-")
        log.error("STORE %s %s not answered: %s", request.method, route, problem)
        return await refusal(request, Refused("database_away"))

    for part in (app, chainlit_server.app):
        part.add_exception_handler(DatabaseAway, database_away)
    app.add_exception_handler(Refused, refusal)
    app.add_exception_handler(AccountError, account_refusal)
