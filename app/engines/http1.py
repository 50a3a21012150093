"""HTTP/1.1 for httpx whose cost is counted in reads, not in pieces.

An engine sends each token as a chunk of its own. httpx' own transport parses each in Python and hands it on alone,
which costs more than all else that is done with a token. Here llhttp parses (by httptools), and what came together is
handed on together.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Final, cast

import httptools
import httpx

_Origin = tuple[bytes, bytes, int | None]

# As httpx has it: an idle connection is kept for so many seconds, and so many of them.
_IDLE_SECONDS: Final = 5.0
_MOST_IDLE: Final = 20
# Bytes of a body that may wait for their reader before the sender is held back.
_HIGH: Final = 1 << 20


class Http1Transport(httpx.AsyncBaseTransport):
    """For `httpx.AsyncClient(transport=...)`: http and https, no proxies, as many connections as are asked for.

    Bodies of requests are sent whole. The silence allowed while a body comes is looked up at each wait, so that it may
    be changed on the way (`response.request.extensions["timeout"]["read"]`).
    """

    def __init__(self) -> None:
        self._idle: defaultdict[_Origin, list[_Connection]] = defaultdict(list)
        self._tls: ssl.SSLContext | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send the request; the response is given back with its headers, its body comes as it is read.

        Raises:
            httpx.TransportError: no connection, no answer in time, or none that is HTTP.
        """
        limits = request.extensions.setdefault("timeout", {})
        body = await request.aread()
        origin = (request.url.raw_scheme, request.url.raw_host, request.url.port)
        connection = self._take(origin) or await self._connect(request.url, limits.get("connect"))
        try:
            connection.send(_head(request) + body)
            await connection.until(connection.begun, limits.get("read"))
        except BaseException:
            connection.abort()
            raise
        return httpx.Response(
            connection.status,
            headers=connection.headers,
            stream=_Body(self, origin, connection, limits),
            request=request,
        )

    async def aclose(self) -> None:
        """Give back the connections that nobody uses."""
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()

    def give_back(self, origin: _Origin, connection: _Connection) -> None:
        """A body was read, or nobody wants the rest of it."""
        if connection.reusable and len(idle := self._idle[origin]) < _MOST_IDLE:
            connection.idle_since = time.monotonic()
            idle.append(connection)
        else:
            connection.abort()

    def _take(self, origin: _Origin) -> _Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.reusable and time.monotonic() - connection.idle_since < _IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _connect(self, url: httpx.URL, limit: float | None) -> _Connection:
        if url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"{url.scheme} is not http")
        secure = url.scheme == "https"
        if secure and self._tls is None:
            self._tls = httpx.create_ssl_context()
        host = url.raw_host.decode("ascii")
        try:
            async with asyncio.timeout(limit):
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection,
                    host,
                    url.port or (443 if secure else 80),
                    ssl=self._tls if secure else None,
                )
        except TimeoutError:
            raise httpx.ConnectTimeout(f"no connection to {host} within {limit} s") from None
        except OSError as problem:
            raise httpx.ConnectError(str(problem)) from problem
        return connection


class _Body(httpx.AsyncByteStream):
    """The body of a response, as it comes."""

    def __init__(
        self, transport: Http1Transport, origin: _Origin, connection: _Connection, limits: dict[str, float | None]
    ) -> None:
        self._transport = transport
        self._origin = origin
        self._connection: _Connection | None = connection
        self._limits = limits

    async def __aiter__(self) -> AsyncIterator[bytes]:
        connection = self._connection
        if connection is None:
            raise httpx.StreamClosed
        while True:
            if data := connection.take():
                yield data
            elif connection.complete:
                return
            else:
                await connection.until(connection.more, self._limits.get("read"))

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.give_back(self._origin, connection)


class _Connection(asyncio.Protocol):
    """One connection, for one request after the other.

    Attributes:
        status, headers: of the response, once it has `begun`.
        complete: its body has come whole.
        idle_since: by the monotonic clock.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser
        self._problem: httpx.TransportError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reset()
        self.complete = True
        self.idle_since = 0.0

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._size = 0
        self._held_back = False
        self._length_known = False
        self._has_headers = False
        self._keeps = False
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    @property
    def reusable(self) -> bool:
        """Whether another request can be sent."""
        return self.complete and self._keeps and self._problem is None and self._transport is not None

    def send(self, data: bytes) -> None:
        """A request."""
        self._reset()
        if self._transport is not None:
            self._transport.write(data)

    def begun(self) -> bool:
        return self._has_headers

    def more(self) -> bool:
        return bool(self._pieces) or self.complete

    async def until(self, condition: Callable[[], bool], limit: float | None) -> None:
        """Wait until what was sent has made `condition` true, for at most `limit` seconds.

        Raises:
            httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError: it will not.
        """
        try:
            async with asyncio.timeout(limit):
                while not condition():
                    if self._problem is not None:
                        raise self._problem
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        except TimeoutError:
            raise httpx.ReadTimeout(f"nothing for {limit} s") from None

    def take(self) -> bytes:
        """What has come of the body and was not taken yet."""
        if not self._pieces:
            return b""
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        if self._held_back and self._transport is not None:
            self._held_back = False
            self._transport.resume_reading()
        return data

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by their classes

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            self._fail(httpx.RemoteProtocolError(str(problem)))
            self.abort()
        if self._size > _HIGH and not self._held_back and self._transport is not None:
            self._held_back = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._has_headers and not self._length_known and exc is None:
            self.complete = True  # a body without a length ends with its connection
        if exc is not None:
            self._fail(httpx.ReadError(str(exc)))
        else:
            self._fail(httpx.RemoteProtocolError("the connection was closed"))
        self._wake()

    def _fail(self, problem: httpx.TransportError) -> None:
        self._problem = self._problem or problem

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # httptools calls these

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._length_known = True

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:
            self._has_headers = True
        else:  # 100 Continue and the like: the answer is still to come
            self.headers = []

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        self.complete = self._has_headers
        self._keeps = bool(self._parser.should_keep_alive())


def _head(request: httpx.Request) -> bytes:
    """The request line and the headers."""
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % header for header in request.headers.raw]
    return b"\r\n".join(lines) + b"\r\n\r\n"
