"""How much a request may bring: whoever sends it, declared or in chunks, and it is refused unread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from app.api.bodies import BoundedBodies
from tests.site import Program, fake_ollama, server
from tests.tab import Visitor

MOST, SOCKETS = 50_000, 80_000
ANYWHERE = ["/v1/chat/completions", "/feedback", "/set-session-cookie", "/project/threads", "/api/me", "/", "/nowhere"]
SIGN_IN = ["/login", "/api/auth/register", "/api/me/join"]
MIB = 1024 * 1024


async def length(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the size of what it is sent."""
    await JSONResponse(len(await Request(scope, receive).body()))(scope, receive, send)


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 100):
        yield b"x" * 100


async def sent(path: str, content: Any, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(BoundedBodies(length, MOST, SOCKETS))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        return await client.post(path, content=content, headers=headers)


@pytest.mark.parametrize(
    ("path", "most"),
    [*((path, MOST) for path in ANYWHERE), *((path, 16_384) for path in SIGN_IN), ("/ws/socket.io/", SOCKETS)],
)
async def test_each_path_has_a_bound_for_what_is_declared_and_for_chunks(path: str, most: int) -> None:
    fits = most // 100 * 100
    for content in (b"x" * fits, chunks(fits)):
        assert (await sent(path, content)).json() == fits
    for content in (b"x" * (most + 1), chunks(fits + 100), chunks(10_000_000)):
        assert (await sent(path, content)).status_code == 413


async def test_what_declares_too_much_is_not_read_at_all() -> None:
    answers: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("nothing of it is wanted")

    async def send(message: Message) -> None:
        answers.append(message)

    headers = [(b"content-length", b"150000000")]
    scope = {"type": "http", "method": "POST", "path": "/feedback", "headers": headers}
    await BoundedBodies(length, MOST, SOCKETS)(scope, receive, send)
    assert answers[0]["status"] == 413


async def test_a_body_that_breaks_off_reaches_nobody() -> None:
    pieces: list[Message] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return pieces.pop(0)

    async def nothing(*_: Any) -> None:
        raise AssertionError("nobody is there")

    scope = {"type": "http", "method": "POST", "path": "/feedback", "headers": []}
    await BoundedBodies(nothing, MOST, SOCKETS)(scope, receive, nothing)
    assert not pieces


async def test_what_is_imported_has_a_bound_of_its_own() -> None:
    assert (await sent("/api/me/import", b"x" * 1_000_000)).json() == 1_000_000


async def test_the_refusal_has_the_form_of_the_path_and_the_askers_language() -> None:
    large = b"x" * 100_000
    english = "That is too much at once: at most 50,000 bytes are taken here. Send less."
    assert (await sent("/v1/responses", large)).json() == {
        "error": {"message": english, "type": "invalid_request_error", "param": None, "code": "request_too_large"}
    }
    for path in ("/api/me", "/feedback"):
        assert (await sent(path, large)).json() == {"detail": english, "code": "request_too_large"}
    russian = (await sent("/feedback", large, **{"accept-language": "ru"})).json()["detail"]
    assert russian.startswith("Слишком много сразу")


# A running server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    folder = tmp_path_factory.mktemp("bodies")
    # With an engine that is there: else a model of our own is loaded meanwhile, which takes memory, too.
    with fake_ollama(folder) as ollama, server(folder, OLLAMA_HOST=ollama.url, MAX_BODY_BYTES="20000") as program:
        yield program


def memory(site: Program) -> int:
    """The most that the server has had in memory since the last call, in bytes."""
    folder = Path(f"/proc/{site.process.pid}")
    status = (folder / "status").read_text()
    (folder / "clear_refs").write_text("5")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) * 1024


def large() -> Iterator[bytes]:
    for _ in range(100):
        yield b" " * MIB


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("PUT", "/feedback"),
        ("POST", "/set-session-cookie"),
        ("POST", "/project/threads"),
        ("POST", "/ws/socket.io/?EIO=4&transport=polling"),
    ],
)
def test_a_stranger_does_not_fill_the_servers_memory(site: Program, method: str, path: str) -> None:
    httpx.request(method, site.url + path, content=b"{}", trust_env=False)
    memory(site)
    before = memory(site)
    try:
        answer = httpx.request(method, site.url + path, content=large(), timeout=30, trust_env=False)
        assert answer.status_code == 413
    except httpx.TransportError:
        pass  # answered, and closed while more was being sent
    assert memory(site) - before < 20 * MIB


def test_a_comment_has_a_length(site: Program) -> None:
    with Visitor(site.url) as ann:
        for size, status in ((4_000, 404), (4_001, 422)):
            feedback = {"forId": "no-such-step", "value": 1, "comment": "ы" * size}
            answer = ann.call("PUT", "/feedback", {"feedback": feedback, "sessionId": "x"})
            assert answer.status_code == status
        assert answer.json() == {
            "detail": "That comment is too long: at most 4000 characters are kept. Make it shorter.",
            "code": "comment_too_long",
        }
