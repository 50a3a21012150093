"""How deep the JSON of a request may be nested: found out without parsing it."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from app.api.depth import ShallowJson, depth

MOST = 10
JSON = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=30,
)


def really(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(really, value.values()), default=0)
    return 1 + max(map(really, value), default=0) if isinstance(value, list) else 0


@given(JSON, st.booleans())
def test_it_is_as_deep_as_it_is(value: Any, ascii_only: bool) -> None:
    assert depth(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"), -1) == really(value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig"])
def test_another_encoding_hides_nothing(encoding: str) -> None:
    # In UTF-16 the first sign has the byte of a quote; the other is half a pair.
    body = '{"a": "\u2200\ud800", "b": ' + "[" * 99 + "]" * 99 + "}"
    data = body.encode(encoding, "surrogatepass")
    assert depth(data, MOST) == 100
    json.loads(data)
    depth(data[:-1], MOST)  # which no parser takes
    # Other readers take this for UTF-8: several packets of a page, by long polling.
    assert depth(b"6\0\x1e42" + b"[" * 99, MOST) == 99


def test_what_is_said_in_a_message_is_not_nested() -> None:
    assert depth(json.dumps({"content": '[[[["\\' * 100}).encode()) == 1


@pytest.mark.parametrize(
    "piece", [b"[", b'"', b'"\\', b'\\"', b'{"a":', b'["\\"', b"\\", b'"a', b"]", b"{}"], ids=lambda piece: repr(piece)
)
def test_no_body_takes_long(piece: bytes) -> None:
    body = piece * (1_000_000 // len(piece)) + b"["
    began = time.process_time()
    depth(body)
    # Looked at once for each quote it would take hours.
    assert time.process_time() - began < 5


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that parses what it is sent."""
    await JSONResponse(len(await Request(scope, receive).json()))(scope, receive, send)


async def sent(path: str, body: bytes, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(ShallowJson(answer, MOST))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await client.post(path, content=body, headers=headers)


@pytest.mark.parametrize("kind", ["application/json", "", "text/plain", "application/json; charset=utf-8"])
async def test_what_is_nested_too_deeply_is_refused_before_it_is_parsed(kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    assert (await sent("/v1/chat/completions", b"[" * MOST + b"]" * MOST, **headers)).json() == 1
    for levels in (MOST + 1, 100_000):
        refused = await sent("/v1/chat/completions", b"[" * levels + b"]" * levels, **headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "too_deep")
    russian = await sent("/api/chat", b"[" * 99, **{"accept-language": "ru"} | headers)
    assert russian.json()["detail"].startswith("Слишком глубокая вложенность")


async def test_what_a_page_sends_by_long_polling_is_looked_at_too() -> None:
    packet = b'42["client_message",' + b"[" * 99
    assert (await sent("/ws/socket.io/", packet, **{"content-type": "text/plain"})).status_code == 400


async def test_many_messages_beside_each_other_are_not_nested() -> None:
    assert (await sent("/v1/chat/completions", json.dumps([{"a": [1]}] * 5000).encode())).json() == 5000
