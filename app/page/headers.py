"""What every answer tells the browser to refuse."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class SecurityHeaders:
    """ASGI middleware. The rest of the page's policy is in its HTML, see app/page/html.py; frames are not for there.

    Args:
        frame_ancestors: who may show the page in a frame, as a Content-Security-Policy names them.
    """

    def __init__(self, app: ASGIApp, frame_ancestors: str) -> None:
        self._app = app
        self._headers = [
            (b"content-security-policy", f"frame-ancestors {frame_ancestors}".encode("ascii")),
            (b"x-content-type-options", b"nosniff"),
            # A conversation's id is in the page's address.
            (b"referrer-policy", b"same-origin"),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self._headers]}
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)
