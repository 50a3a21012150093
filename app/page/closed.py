"""Paths of Chainlit that this page never uses: to everybody they are not there.

Most of them are safe as Chainlit is set up in .chainlit/config.toml. What is not there stays safe when a setting or
Chainlit changes, and nothing of a request for it is read.
"""

from __future__ import annotations

from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# Each with all that is below it, and why it is closed.
CLOSED: Final = {
    "/mcp": "starts programs and asks other servers for a visitor (CVE-2026-45018, CVE-2026-45019)",
    "/project/element": "writes elements as the browser words them (CVE-2026-22218, CVE-2026-22219)",
    "/project/file": "reads a whole upload before it asks whether uploads are on, and serves files of sessions",
    "/project/share": "shows a conversation to everybody",
    "/project/thread/share": "has it shown, also where sharing is off",
    "/auth/jwt": "is for pages that embed the chat",
    "/copilot": "is for pages that embed the chat",
    "/docs/oauth2-redirect": "is for logging in to Chainlit's own list of all this",
}
# Not Chainlit's: there a name may be anything, and errors have a form of their own.
_APIS: Final = ("/v1/", "/api/")
# Longest name of a file, in bytes; Chainlit answers a longer one, or one with a NUL, with an internal error.
_LONGEST_NAME: Final = 255


def is_closed(path: str) -> bool:
    """Whether a path is one of `CLOSED`, or one that no file and no id can have."""
    if any(path == closed or path.startswith(f"{closed}/") for closed in CLOSED):
        return True
    if path.startswith(_APIS):
        return False
    return "\0" in path or any(len(name.encode("utf-8", "replace")) > _LONGEST_NAME for name in path.split("/"))


class ClosedPaths:
    """ASGI middleware that answers 404 for what `is_closed`, whatever the method."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and is_closed(scope["path"]):
            await JSONResponse({"detail": "Not found"}, status_code=404)(scope, receive, send)
            return
        await self._app(scope, receive, send)
