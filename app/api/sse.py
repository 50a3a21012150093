"""A reply as a stream of server-sent events, or whole: what both APIs have in common."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.api.programs import Programs
from app.api.relay import ClientLeft, watching
from app.engines.base import Loading, Reading
from app.errors import ChatError
from app.turn import ChatTurn, Event, Waiting

# How long a stream's status is held back, so that a refusal has its own: an engine refuses within that time, and hardly
# a client gives up. Then it is 200, and what goes wrong later is an event.
_HOLD_SECONDS: Final = 2.0
LEFT_OUT: Final = "X-Context-Messages-Left-Out"
STREAM_HEADERS: Final = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # nginx gathers what it passes on unless it is told not to.
    "x-accel-buffering": "no",
}


def dump(value: Any) -> bytes:
    """`value` as JSON, whatever is in its texts."""
    try:
        return orjson.dumps(value)
    except TypeError:  # half a surrogate pair
        return json.dumps(value, separators=(",", ":")).encode("ascii")


class Form(Protocol):
    """How an API words a reply."""

    turn: ChatTurn

    def events(self, events: Sequence[Event]) -> bytes:
        """What these events are on the stream; nothing for those that tell of waiting."""
        ...

    def finished(self) -> bytes:
        """The end of the stream, after the turn's."""
        ...

    def failed(self, error: ChatError) -> bytes:
        """The end of a stream whose turn failed after it had begun."""
        ...

    def whole(self) -> Mapping[str, Any]:
        """The answer to a program that did not ask for a stream."""
        ...

    def refusal(self, error: ChatError) -> Response:
        """The answer where nothing was sent yet."""
        ...


def comment(event: Event | None) -> bytes:
    """A line of the stream that clients pass over and that keeps proxies and clients from giving up."""
    match event:
        case Waiting(ahead, seconds_left):
            about = "" if seconds_left is None else f", about {max(math.ceil(seconds_left), 1)} s"
            words = f"waiting, {ahead} before you{about}"
        case Loading():
            words = "loading the model"
        case Reading():
            words = "reading"
        case _:
            words = "working"
    return f": {words}\n\n".encode("ascii")


class Reply(Response):
    """The answer to a program: runs the turn while the client is there.

    Args:
        programs: starts it.
        form: words it.
        stream: whether it is sent as it comes.
    """

    def __init__(self, programs: Programs, form: Form, *, stream: bool) -> None:
        super().__init__()
        self._programs = programs
        self._form = form
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._relay = self._programs.start(self._form.turn)
        try:
            async with watching(receive, self._relay.leave):
                await (self._send_stream if self._stream else self._send_whole)(scope, receive, send)
        except ClientLeft:
            pass
        finally:
            await self._relay.close()

    async def _send_whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        while not self._relay.ended:
            await self._relay.take()
        if self._relay.problem is not None:
            answer = self._form.refusal(self._relay.problem)
        else:
            answer = Response(dump(self._form.whole()), headers=self._left_out(), media_type="application/json")
        await answer(scope, receive, send)

    async def _send_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        clock = asyncio.get_running_loop().time
        every = self._programs.comment_seconds
        due = clock() + min(_HOLD_SECONDS, every)
        began, news = False, None
        while True:
            events = await self._relay.take(max(due - clock(), 0))
            data = self._form.events(events)
            if self._relay.ended:
                break
            if events and not data:
                news = events[-1]
            # Who has been told to wait is told of every step.
            if not data and (clock() >= due or (began and events)):
                data = comment(news)
            if data:
                await self._write(send, data, began=began)
                began, due = True, clock() + every
        problem = self._relay.problem
        if problem is not None and not began and not data:
            await self._form.refusal(problem)(scope, receive, send)
            return
        data += self._form.finished() if problem is None else self._form.failed(problem)
        await self._write(send, data, began=began, more=False)

    async def _write(self, send: Send, data: bytes, *, began: bool, more: bool = True) -> None:
        if not began:
            headers = [
                (name.lower().encode("latin-1"), value.encode("latin-1"))
                for name, value in {**STREAM_HEADERS, **self._left_out()}.items()
            ]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data, "more_body": more})

    def _left_out(self) -> dict[str, str]:
        return {LEFT_OUT: str(self._form.turn.left_out_messages)}
