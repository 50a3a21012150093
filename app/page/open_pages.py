"""Closes pages that are open with a token that is good no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from chainlit.session import WebsocketSession, ws_sessions_id
from starlette.requests import cookie_parser

from app.page.standing import Standing
from app.page.tokens import token_in, user_of
from app.page.visitor import COOKIE, own_name

log = logging.getLogger(__name__)

# How often it is looked for what another process has changed, in seconds.
_PAUSE: Final = 20.0
_SPACE: Final = "/"


class OpenPages:
    """The sockets of this process.

    A socket asks for its token once, when it is opened. Here it is asked for again: at once where this process has
    ended tokens, and every 20 seconds for what the command line or another replica has.

    Args:
        sio: the socket.io server.
        standing: tells which tokens are good.
        end: stops what is being written for a page.
    """

    def __init__(self, sio: Any, standing: Standing, end: Callable[[WebsocketSession], None]) -> None:
        self._sio = sio
        self._standing = standing
        self._end = end

    @property
    def count(self) -> int:
        """How many pages are connected now."""
        return sum(self._connection(session) is not None for session in list(ws_sessions_id.values()))

    async def run(self) -> None:
        """Look every 20 seconds, for ever."""
        while True:
            await asyncio.sleep(_PAUSE)
            try:
                await self.close_fallen()
            except Exception:
                log.exception("AUTH the open pages could not be looked through")

    async def close_fallen(self, spared: str | None = None) -> None:
        """Close the pages whose token is good no more, and stop their replies.

        Args:
            spared: the browser, by what its cookie leads to, that has been given another token: its pages only
                connect anew, and what is being written for them goes on.
        """
        closed = 0
        for session in list(ws_sessions_id.values()):
            own = _own(session)
            if await self._stands(session, own):
                continue
            if own is None or own != spared:
                self._end(session)
            closed += await self._disconnect(session)
        if closed:
            log.info("AUTH pages closed whose sign-in has ended: %d", closed)

    async def close_token(self, token: str) -> None:
        """Close the pages that were opened with that very token: its browser has signed out."""
        for session in list(ws_sessions_id.values()):
            if token_in(_cookies(session)) == token:
                self._end(session)
                await self._disconnect(session)

    async def _stands(self, session: WebsocketSession, own: str | None) -> bool:
        # Not by session.token, which stays that of the first connection when the page connects anew.
        user = user_of(token_in(_cookies(session)))
        if user is None or session.user is None or user.identifier != session.user.identifier:
            return False
        return await self._standing.stands(user, own)

    async def _disconnect(self, session: WebsocketSession) -> bool:
        """Close a page's connection beneath socket.io, so that the page tries to connect anew; False: it has none."""
        connection = self._connection(session)
        if connection is None:
            return False
        # Not `eio.disconnect`: it waits until the page has taken notice, and leaves a websocket open until it has.
        await connection.close(wait=False, reason=self._sio.eio.reason.SERVER_DISCONNECT)
        await connection.queue.put(None)
        return True

    def _connection(self, session: WebsocketSession) -> Any:
        """A page's connection; None: it has none."""
        name = self._sio.manager.eio_sid_from_sid(session.socket_id, _SPACE)
        return self._sio.eio.sockets.get(name) if name is not None else None


def _cookies(session: WebsocketSession) -> dict[str, str]:
    found: dict[str, str] = cookie_parser((session.environ or {}).get("HTTP_COOKIE", ""))
    return found


def _own(session: WebsocketSession) -> str | None:
    return own_name(_cookies(session).get(COOKIE))
