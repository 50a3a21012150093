"""What /v1 adds to an engine that has every token ready, and how soon a client that leaves is noticed.

The engine is `bench.instant`; the clients count bytes, so that the machine's time is the server's.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psutil

from bench.figures import Figure
from bench.instant import MODEL
from tests.site import Program, clean_environment, free_port, server

_TOKENS: Final = 4000
_ROUNDS: Final = 15
_IDLE: Final = 200
_CLIENTS: Final = 8
# The engine and the clients run beside the server, on as many cores as there are.
_ROOM: Final = {"MAX_TOKENS": "4096", "NUM_CTX": "8192", "SLOTS": "256", "LOG_LEVEL": "WARNING"}


@contextmanager
def _instant(folder: Path) -> Iterator[str]:
    """The engine; its address."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.instant", "--port", str(port)], cwd=folder, env=clean_environment()
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                httpx.get(url, trust_env=False)
                break
            except httpx.TransportError:
                time.sleep(0.02)
        yield url
    finally:
        process.terminate()
        process.wait()


class _Client:
    """A connection that is kept, and what comes over it."""

    def __init__(self, url: str, path: str) -> None:
        self._address = urlsplit(url)
        self._path = path

    async def __aenter__(self) -> _Client:
        self._reader, self._writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def ask(self, text: str, *, stream: bool = True) -> None:
        """Send a request of OpenAI's, or of Ollama's where the path is that."""
        messages = [{"role": "user", "content": text}]
        body: dict[str, Any] = {"model": MODEL, "messages": messages, "stream": stream}
        data = json.dumps(body).encode()
        head = f"POST {self._path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
        self._writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

    async def first(self) -> float:
        """Read to the end; the moment when the first token came."""
        at, seen = 0.0, b""
        while not seen.endswith(b"0\r\n\r\n"):
            data = await self._reader.read(1 << 18)
            if not data:
                raise RuntimeError("the connection was closed")
            seen = seen[-16:] + data
            if not at and b'"content":" ' in data:
                at = time.perf_counter()
        return at

    async def begun(self) -> None:
        """Wait for the first bytes of the answer."""
        await self._reader.read(1 << 16)


@asynccontextmanager
async def _clients(url: str, path: str, number: int) -> AsyncIterator[list[_Client]]:
    clients = [_Client(url, path) for _ in range(number)]
    for client in clients:
        await client.__aenter__()
    yield clients
    for client in clients:
        await client.__aexit__()


async def _first_token(client: _Client) -> float:
    """Seconds to the first token."""
    began = time.perf_counter()
    client.ask("count to 5")
    return await client.first() - began


async def _together(url: str, path: str, number: int, work: Callable[[_Client], Awaitable[float]]) -> list[float]:
    """What `work` gives for each of so many clients at once, round by round."""
    found: list[float] = []
    async with _clients(url, path, number) as clients:
        await asyncio.gather(*map(work, clients))
        for _ in range(_ROUNDS):
            found += await asyncio.gather(*map(work, clients))
    return found


async def _added(engine: str, site: str, number: int) -> float:
    """Median of the seconds to the first token, over those of the engine alone."""
    through = median(await _together(site, "/v1/chat/completions", number, _first_token))
    return through - median(await _together(engine, "/api/chat", number, _first_token))


async def _speed(site: str, number: int) -> float:
    """Tokens a second of so many replies at once; the median of the rounds."""
    speeds = []
    async with _clients(site, "/v1/chat/completions", number) as clients:
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            for client in clients:
                client.ask(f"count to {_TOKENS}")
            await asyncio.gather(*(client.first() for client in clients))
            speeds.append(number * _TOKENS / (time.perf_counter() - began))
    return median(speeds)


async def _engine(url: str, path: str, **body: Any) -> Any:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.post(url + path, json=body)).json()


async def _open(engine: str, number: int) -> float:
    """Wait until the engine writes so many replies; seconds since one was last closed there."""
    while True:
        state = await _engine(engine, "/_state")
        if state["open"] == number:
            return float(state["left"])
        await asyncio.sleep(0.005)


async def _idle_bytes(engine: str, site: Program) -> int:
    """Memory that streams take in which nothing happens."""
    process = psutil.Process(site.process.pid)
    before = process.memory_info().rss
    await _engine(engine, "/_hold", hold=True)
    async with _clients(site.url, "/v1/chat/completions", _IDLE) as clients:
        for client in clients:
            client.ask("begin")
        await _open(engine, _IDLE)
        await asyncio.gather(*(client.begun() for client in clients))
        taken = int(process.memory_info().rss) - before
    await _open(engine, 0)
    await _engine(engine, "/_hold", hold=False)
    return taken


async def _leaving(engine: str, site: str, text: str, *, stream: bool) -> float:
    """Seconds from a client's leaving to the end of our request to the engine."""
    found = []
    await _engine(engine, "/_hold", hold=True)
    for _ in range(_ROUNDS):
        async with _Client(site, "/v1/chat/completions") as client:
            client.ask(text, stream=stream)
            await _open(engine, 1)
            if stream and text == "begin":
                await client.begun()
            left_at = time.monotonic()
        since = await _open(engine, 0)
        found.append(time.monotonic() - since - left_at)
    await _engine(engine, "/_hold", hold=False)
    return max(found)


async def _check(site: str) -> None:
    """Each token comes as an event of its own."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"count to {_TOKENS}"}], "stream": True}
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.post(f"{site}/v1/chat/completions", json=body, timeout=60)).text
    found = text.count('"content":" ')
    if found != _TOKENS:
        raise RuntimeError(f"{found} tokens came in place of {_TOKENS}")


async def _measure(engine: str, site: Program) -> list[Figure]:
    url = site.url
    await _check(url)
    await _together(url, "/v1/chat/completions", 1, _first_token)  # everything is loaded now
    taken = await _idle_bytes(engine, site) / 1e6  # before other work has left memory to use again
    one, eight = 1e3 * await _added(engine, url, 1), 1e3 * await _added(engine, url, _CLIENTS)
    alone, many = await _speed(url, 1), await _speed(url, _CLIENTS)
    before = 1e3 * await _leaving(engine, url, "wait", stream=True)
    whole = 1e3 * await _leaving(engine, url, "wait", stream=False)
    amid = 1e3 * await _leaving(engine, url, "begin", stream=True)
    return [
        Figure("/v1: time to first token over the engine's, one client", f"{one:.1f} ms", "under 4 ms", one < 4),
        Figure("/v1: the same, eight at once", f"{eight:.1f} ms", "under 15 ms", eight < 15),
        Figure("/v1: undelayed tokens, one client", f"{alone:,.0f} tok/s", "over 60,000 tok/s", alone > 60_000),
        Figure("/v1: undelayed tokens, eight clients", f"{many:,.0f} tok/s", "over 70,000 tok/s", many > 70_000),
        Figure(f"/v1: memory of {_IDLE} idle streams", f"{taken:.0f} MB", "under 60 MB", taken < 60),
        Figure("/v1: a client leaves before the first token (slowest)", f"{before:.0f} ms", "200 ms", before < 200),
        Figure("/v1: the same without streaming", f"{whole:.0f} ms", "200 ms", whole < 200),
        Figure("/v1: a client leaves within a reply (slowest)", f"{amid:.0f} ms", "200 ms", amid < 200),
    ]


def measure() -> list[Figure]:
    """Added time, speed, memory, and leaving."""
    with (
        tempfile.TemporaryDirectory() as name,
        _instant(Path(name)) as engine,
        server(Path(name), OLLAMA_HOST=engine, MODEL=f"ollama/{MODEL}", **_ROOM) as site,
    ):
        return asyncio.run(_measure(engine, site))
