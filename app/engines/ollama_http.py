"""Ollama over HTTP: one JSON object, or a stream of lines; failures as typed errors, silence bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final, Literal

import httpx

from app.engines.http1 import Http1Transport
from app.engines.ollama_errors import LABEL, refusal
from app.errors import EngineError, EngineFailed, EngineSilent, EngineUnreachable, StreamCut

_CONNECT_SECONDS: Final = 5.0
# The words of a refusal come with it, or are done without.
_REFUSAL_SECONDS: Final = 5.0


class OllamaHttp:
    """The connections to one Ollama.

    Args:
        url: of the server, without a slash at its end; a name and a password in it are sent as HTTP has them (Basic).
        client: used in place of its own, and closed with it.
    """

    def __init__(self, url: str, client: httpx.AsyncClient | None = None) -> None:
        address = httpx.URL(url)
        # What is shown and logged has no password in it.
        self.url = str(address.copy_with(userinfo=b"")).rstrip("/")
        self._client = client or httpx.AsyncClient(
            transport=Http1Transport(),
            trust_env=False,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            # A proxy that compressed the stream would hold tokens back to fill its blocks.
            headers={"accept-encoding": "identity"},
        )
        if address.userinfo:
            self._client.auth = httpx.BasicAuth(address.username, address.password)

    async def ask(
        self,
        method: Literal["GET", "POST"],
        path: str,
        *,
        limit: float,
        model: str = "",
        body: Mapping[str, object] | None = None,
    ) -> bytes:
        """The body of an answer with status 200.

        Args:
            method, path, body: the request.
            limit: seconds that the whole answer may take.
            model: named in errors.

        Raises:
            EngineUnreachable: nobody answers at the address.
            EngineSilent: no answer within `limit`.
            EngineError: as `refusal` has it, for another status.
        """
        try:
            async with asyncio.timeout(limit):
                response = await self._client.request(method, self.url + path, json=body)
        except TimeoutError:
            raise EngineSilent(engine=LABEL, seconds=limit) from None
        except httpx.TransportError as problem:
            raise self._without_answer(problem) from None
        if response.status_code != 200:
            raise refusal(response.status_code, response.text, model)
        return response.content

    async def lines(
        self, path: str, body: Mapping[str, object], *, model: str, first_limit: float, limit: float
    ) -> AsyncGenerator[list[bytes], None]:
        """The lines of a streamed answer, those that come together in one list. Closing it closes the connection.

        Args:
            path, body: the POST request.
            model: named in errors.
            first_limit: seconds until the answer begins.
            limit: seconds of silence within it.

        Raises:
            EngineUnreachable: nobody answers at the address.
            EngineSilent: a limit was passed.
            StreamCut: the connection broke within the answer.
            EngineError: as `refusal` has it, for another status than 200.
        """
        response = await self._begin(path, body, first_limit)
        try:
            if response.status_code != 200:
                raise refusal(response.status_code, await _text(response, min(limit, _REFUSAL_SECONDS)), model)
            _limit_silence(response, limit)
            rest = b""
            async for chunk in response.aiter_raw():
                *whole, rest = (rest + chunk).split(b"\n")
                if lines := [line for line in whole if line]:
                    yield lines
            if rest:
                yield [rest]
        except httpx.ReadTimeout:
            raise EngineSilent(engine=LABEL, seconds=limit) from None
        except httpx.TransportError:
            raise StreamCut(engine=LABEL) from None
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Give back the connections."""
        await self._client.aclose()

    async def _begin(self, path: str, body: Mapping[str, object], limit: float) -> httpx.Response:
        timeout = httpx.Timeout(limit, connect=min(limit, _CONNECT_SECONDS))
        request = self._client.build_request("POST", self.url + path, json=body, timeout=timeout)
        try:
            return await self._client.send(request, stream=True)
        except (httpx.ReadTimeout, httpx.WriteTimeout):
            raise EngineSilent(engine=LABEL, seconds=limit) from None
        except httpx.TransportError as problem:
            raise self._without_answer(problem) from None

    def _without_answer(self, problem: httpx.TransportError) -> EngineError:
        if isinstance(problem, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
            return EngineUnreachable(engine=LABEL, url=self.url)
        return EngineFailed(engine=LABEL, detail="it closed the connection without an answer")


def _limit_silence(response: httpx.Response, seconds: float) -> None:
    """Bound the silence between the pieces of a body that has begun.

    httpx's transport looks up the limit again when the body is read. asyncio.timeout around each piece would cost two
    thirds of what receiving the piece costs.
    """
    response.request.extensions["timeout"]["read"] = seconds


async def _text(response: httpx.Response, limit: float) -> str:
    """The body of a refusal; nothing if it does not come whole, for the status says enough."""
    _limit_silence(response, limit)
    try:
        return (await response.aread()).decode("utf-8", "replace")
    except httpx.TransportError:
        return ""
