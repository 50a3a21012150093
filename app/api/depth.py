"""JSON that is nested too deeply is refused before anything parses it: parsers call themselves for each level."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.bodies import first_then
from app.api.problems import Problem
from app.api.refused import Refused, asked_language
from app.api.unknown import form_of

_WITHOUT_BODY: Final = ("GET", "HEAD", "OPTIONS")
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/")
# Possessive, and to the end where a string is not closed: each byte is looked at once.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_OPENING: Final = b"[{"
_OTHERS: Final = bytes(sign for sign in range(256) if sign not in b"[]{}")
# Read piece by piece by its own reader.
_IN_PIECES: Final = "/api/me/import"


class ShallowJson:
    """ASGI middleware that answers 400 where a body is nested deeper than is allowed. Inside of `BoundedBodies`, which
    hands on bodies whole.

    Args:
        most: levels.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY or not _may_be_json(scope):
            await self._app(scope, receive, send)
            return
        first = await receive()
        if depth(first.get("body", b""), self._most) > self._most:
            refused = Refused("too_deep", most=self._most)
            sentence = refused.sentence(asked_language(Headers(scope=scope).get("accept-language")))
            await form_of(scope["path"])(Problem(refused.status, refused.code, sentence))(scope, receive, send)
            return
        await self._app(scope, first_then(first, receive), send)


def depth(body: bytes, enough: int = 0) -> int:
    """How deep JSON is nested; where it cannot be more than `enough`, any number up to that.

    Python's parser takes UTF-16 and UTF-32 too, in which the byte of a quote may be half of another sign: what it would
    read so counts as well.
    """
    encoding = json.detect_encoding(body)
    deepest = _depth(body, enough)
    if not encoding.startswith("utf-8"):
        with suppress(UnicodeDecodeError):  # the parser does not read it either
            read = body.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
            deepest = max(deepest, _depth(read, enough))
    return deepest


def _depth(body: bytes, enough: int) -> int:
    if sum(map(body.count, (b"[", b"{"))) <= enough:
        return 0
    deepest = level = 0
    for sign in _STRING.sub(b"", body).translate(None, _OTHERS):
        if sign in _OPENING:
            level += 1
            deepest = max(deepest, level)
        else:
            level -= 1
    return deepest


def _may_be_json(scope: Scope) -> bool:
    if scope["path"] == _IN_PIECES:
        return False
    return not Headers(scope=scope).get("content-type", "").strip().lower().startswith(_FORMS)
