"""One request to the fake Ollama and its answer, as Go's net/http and gin write it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Coroutine
from typing import Any, Final

from starlette.types import Receive, Send

PLAIN_JSON: Final = "application/json"
JSON: Final = "application/json; charset=utf-8"
_LINES: Final = "application/x-ndjson"
# Go's net/http knows the length of an answer that fits its buffer; a longer one goes out in chunks.
_BUFFER: Final = 2048
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# What Go's encoding/json escapes beyond the standard.
_ESCAPES: Final = str.maketrans({sign: f"\\u{ord(sign):04x}" for sign in "<>&\u2028\u2029"})


class Refused(Exception):
    """The request is answered with an error.

    Args:
        status: of HTTP.
        words: of the error.
        content_type: JSON, but for errors that come from within a stream (as recorded): PLAIN_JSON.
        chunked: whether it goes out in chunks; so do errors from within a stream.
    """

    def __init__(self, status: int, words: str, *, content_type: str = JSON, chunked: bool = False) -> None:
        super().__init__(words)
        self.status = status
        self.words = words
        self.content_type = content_type
        self.chunked = chunked


def dump(content: dict[str, Any]) -> bytes:
    """JSON as Go writes it: no blanks, and signs of HTML escaped."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).translate(_ESCAPES)
    return _SURROGATE.sub("\ufffd", text).encode()


class Exchange:
    """The connection of one request: headers when it wants, notice of a client that leaves.

    A handler that returns before `ended` leaves a broken connection: the server closes it.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.began = False
        self.ended = False

    async def json(self) -> dict[str, Any]:
        """The body.

        Raises:
            Refused: it is not a JSON object.
        """
        raw = b""
        while True:
            message = await self._receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        text = raw.decode(errors="replace")
        if not text.strip():
            raise Refused(400, "missing request body")
        try:
            found = json.loads(text)
        except json.JSONDecodeError as problem:
            if problem.pos >= len(text.rstrip()):
                raise Refused(400, "unexpected EOF") from None
            raise Refused(400, f"invalid character '{text[problem.pos]}' looking for beginning of value") from None
        if not isinstance(found, dict):
            raise Refused(400, "json: cannot unmarshal into Go value of type api.ChatRequest")
        return found

    async def attend(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work while the client is there; cancel it when the client leaves, and wait until it has ended."""
        task, gone = asyncio.create_task(work), asyncio.create_task(self._gone())
        try:
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            done = task.done()
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.wait({task, gone})
        if done:
            task.result()

    async def _gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def refuse(self, refused: Refused) -> None:
        """The error as the whole answer; in mid-stream as its last line."""
        error = {"error": refused.words}
        if self.began:
            await self.line(error)
            await self.end()
        else:
            await self.answer(error, refused.status, content_type=refused.content_type, chunked=refused.chunked)

    async def answer(
        self, content: dict[str, Any], status: int = 200, *, content_type: str = JSON, chunked: bool = False
    ) -> None:
        """One JSON object as the whole answer."""
        body = dump(content)
        length = None if chunked or len(body) > _BUFFER else len(body)
        await self._begin(status, content_type, length)
        await self._send({"type": "http.response.body", "body": body})
        self.ended = True

    async def nothing(self) -> None:
        """An answer without content."""
        await self._begin(200, None, 0)
        await self._send({"type": "http.response.body", "body": b""})
        self.ended = True

    async def break_off(self) -> None:
        """Half of an answer, after which the handler is to return."""
        if not self.began:
            await self._begin(200, JSON, 100)
            await self._send({"type": "http.response.body", "body": b'{"model":', "more_body": True})

    async def line(self, content: dict[str, Any]) -> None:
        """One line of a stream; the headers go out with the first."""
        if not self.began:
            await self._begin(200, _LINES, None)
        await self._send({"type": "http.response.body", "body": dump(content) + b"\n", "more_body": True})

    async def end(self) -> None:
        """The end of a stream."""
        await self._send({"type": "http.response.body", "body": b""})
        self.ended = True

    async def _begin(self, status: int, content_type: str | None, length: int | None) -> None:
        self.began = True
        headers = [] if content_type is None else [(b"content-type", content_type.encode())]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
