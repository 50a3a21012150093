"""Who may open a socket, and who may go on with one that is open."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qs

from chainlit.data import get_data_layer
from chainlit.session import WebsocketSession
from chainlit.socket import connect as chainlit_connect
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from app.page.data_layer import ONLY_OWNER
from app.page.steps import new_id
from app.page.visitor import cookie_of
from app.storage.problems import DatabaseAway

_PATH: Final = "/ws/socket.io"
# As Chainlit's page makes them.
_SESSION_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGEST_THREAD_ID: Final = 64


async def connect(sid: str, environ: dict[str, Any], auth: object) -> Any:
    """Chainlit's `connect`, which asks whose the session and the thread are, for ids that can be some.

    A session's id names a folder that Chainlit deletes with the session: `../data` would be everybody's conversations.
    A thread's may come from a stranger, as a link: where it is not the visitor's, what is said has one of its own.

    Raises:
        ConnectionRefusedError: the page may not connect.
    """
    if not isinstance(auth, dict):
        raise ConnectionRefusedError("not a page")
    session_id, thread_id = auth.get("sessionId"), auth.get("threadId") or ""
    if not isinstance(session_id, str) or not _SESSION_ID.fullmatch(session_id):
        raise ConnectionRefusedError("not a session's id")
    if not isinstance(thread_id, str) or len(thread_id) > _LONGEST_THREAD_ID:
        raise ConnectionRefusedError("not a thread's id")
    asked = ONLY_OWNER.set(True)
    try:
        accepted = await chainlit_connect(sid, environ, auth)
        layer, session = get_data_layer(), WebsocketSession.require(sid)
        owner = await layer.get_thread_author(thread_id) if layer is not None and thread_id else ""
        own = session.user is not None and session.user.identifier == owner
    except DatabaseAway:
        # Whose the thread is cannot be asked now; it is when the thread is opened.
        accepted = await chainlit_connect(sid, environ, auth | {"threadId": ""})
        session, own = WebsocketSession.require(sid), False
    finally:
        ONLY_OWNER.reset(asked)
    if thread_id and not own and not session.restored:
        session.thread_id_to_resume, session.thread_id = thread_id, new_id()
    return accepted


class SocketGuard:
    """ASGI middleware: a connection goes on only with the visitor's cookie that it began with.

    Over long polling, and where it is made a websocket, the connection's id alone would do: for reading what the
    visitor is told, and for speaking as the visitor.

    Args:
        sio: the socket.io server, whose `environ` has the first request of each connection.
    """

    def __init__(self, app: ASGIApp, sio: Any) -> None:
        self._app = app
        self._sio = sio

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not scope["path"].startswith(_PATH) or self._may(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await PlainTextResponse("Not yours", status_code=403)(scope, receive, send)
        else:
            await WebSocketClose(1008)(scope, receive, send)

    def _may(self, scope: Scope) -> bool:
        # Read as engine.io does, which takes the first of several.
        connection = parse_qs(scope["query_string"].decode("utf-8", "replace")).get("sid")
        begun = self._sio.environ.get(connection[0]) if connection else None
        if begun is None:
            return True  # it begins here, or is unknown, which engine.io says itself
        visitor = cookie_of(begun.get("HTTP_COOKIE"))
        return visitor is not None and visitor == cookie_of(Headers(scope=scope).get("cookie"))
