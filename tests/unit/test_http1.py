"""The transport under Ollama's connections, against a server that answers word for word what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from app.engines.http1 import Http1Transport

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\n"


@asynccontextmanager
async def served(serve: Serve) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """A client, and the address of a server that does that with each connection."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(transport=Http1Transport(), trust_env=False, timeout=5) as client:
        yield client, f"http://127.0.0.1:{port}"
    server.close()


def answering(*answers: bytes, close: bool = False) -> tuple[Serve, list[bytes]]:
    """A server that gives these answers, one to each request, and the requests that it got."""
    left, heads = list(answers), []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while left:
            try:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
            except asyncio.IncompleteReadError:
                break
            writer.write(left.pop(0))
            await writer.drain()
        if close:
            writer.close()

    return serve, heads


async def test_chunks_that_come_together_are_handed_on_together() -> None:
    lines = b"".join(b"2\r\n%d\n\r\n" % number for number in range(9))
    serve, _ = answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + lines + b"0\r\n\r\n")
    async with served(serve) as (client, url), client.stream("GET", url) as response:
        assert [data async for data in response.aiter_raw()] == [b"0\n1\n2\n3\n4\n5\n6\n7\n8\n"]


async def test_a_connection_is_used_again() -> None:
    answer = HEAD + b"Content-Length: 2\r\n\r\nok"
    serve, heads = answering(answer, answer)
    connections = 0

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await serve(reader, writer)

    async with served(counting) as (client, url):
        assert [(await client.get(url)).text for _ in range(2)] == ["ok", "ok"]
    assert connections == 1
    assert heads[0].startswith(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_a_connection_that_the_server_has_closed_is_not() -> None:
    serve, _ = answering(HEAD + b"Content-Length: 2\r\nConnection: close\r\n\r\nok", close=True)
    async with served(serve) as (client, url):
        assert (await client.get(url)).text == "ok"
        with pytest.raises(httpx.TransportError):  # a new one, and the server has no answer left
            await client.get(url)


async def test_a_body_without_a_length_ends_with_its_connection() -> None:
    serve, _ = answering(HEAD + b"\r\nall of it", close=True)
    async with served(serve) as (client, url):
        assert (await client.get(url)).text == "all of it"


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 9\r\n\r\nhalf",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_an_error(answer: bytes) -> None:
    serve, _ = answering(answer, close=True)
    async with served(serve) as (client, url):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(url)


async def test_nobody_at_the_address() -> None:
    async with httpx.AsyncClient(transport=Http1Transport()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("http://127.0.0.1:9")
        with pytest.raises(httpx.UnsupportedProtocol):
            await client.get("ftp://127.0.0.1")


async def test_silence_is_bounded_anew_by_what_the_request_says_meanwhile() -> None:
    serve, _ = answering(HEAD + b"Content-Length: 9\r\n\r\nhalf")
    async with served(serve) as (client, url), client.stream("GET", url) as response:
        response.request.extensions["timeout"]["read"] = 0.01
        with pytest.raises(httpx.ReadTimeout):
            await response.aread()


async def test_closing_a_body_in_its_middle_closes_the_connection() -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        with suppress(ConnectionResetError):  # so it ends where something was not read
            assert await reader.read() == b""
        left.set()

    async with served(serve) as (client, url):
        async with client.stream("GET", url) as response:
            assert await anext(response.aiter_raw()) == b"half"
        async with asyncio.timeout(5):
            await left.wait()


async def test_an_answer_before_the_answer_is_passed_over() -> None:
    serve, _ = answering(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok")
    async with served(serve) as (client, url):
        response = await client.get(url)
    assert (response.status_code, response.text, "link" in response.headers) == (200, "ok", False)
