"""A server with OpenAI's API over HTTP: one JSON answer, or a stream of chunks; failures typed, silence bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final, Literal

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError
from pydantic import SecretStr

from app.engines.openai_errors import Refusal, error_of
from app.engines.openai_server import ServerKind
from app.engines.openai_stream import says_something
from app.errors import EngineFailed, EngineSilent, EngineUnreachable, StreamCut

Json = Mapping[str, Any]

_CONNECT_SECONDS: Final = 5.0


class OpenAIHttp:
    """The connections to one server.

    Args:
        url: with or without /v1 at its end; a name and a password in it are sent as HTTP has them (Basic).
        key: sent as a bearer token; taken out of whatever a server says.
        client: one to use in place of its own, closed with it.
    """

    def __init__(self, url: str, key: SecretStr | None = None, client: httpx.AsyncClient | None = None) -> None:
        address = httpx.URL(url)
        # What is shown and logged has no password in it.
        self.url = str(address.copy_with(userinfo=b"")).rstrip("/").removesuffix("/v1")
        self._key = key.get_secret_value() if key else ""
        self._client = client or httpx.AsyncClient(
            trust_env=False,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None),
        )
        if address.userinfo and not self._key:
            self._client.auth = httpx.BasicAuth(address.username, address.password)
        if self._key:
            self._client.headers["authorization"] = f"Bearer {self._key}"
        # A proxy that compressed the stream would hold tokens back to fill its blocks.
        self._client.headers["accept-encoding"] = "identity"

    async def ask(
        self, method: Literal["GET", "POST"], path: str, kind: ServerKind, *, limit: float, body: Json | None = None
    ) -> dict[str, Any] | Refusal:
        """One request whose answer is one JSON object, or what was said in place of it.

        Args:
            kind: named in errors.
            limit: seconds that the whole answer may take.

        Raises:
            EngineUnreachable: nobody answers at the address.
            EngineSilent: no answer within `limit`.
        """
        try:
            async with asyncio.timeout(limit):
                response = await self._client.request(method, self.url + path, json=body)
        except TimeoutError:
            raise EngineSilent(engine=kind.label, seconds=limit) from None
        except httpx.TransportError:
            raise EngineUnreachable(engine=kind.label, url=self.url) from None
        if response.status_code == 200 and (found := _object(response.text)) is not None:
            return found
        return self._refusal(response.status_code, response.text)

    async def slots_at_work(self, limit: float) -> frozenset[int]:
        """llama.cpp's slots that work now, for whomever; none where it does not tell within `limit` seconds."""
        try:
            async with asyncio.timeout(limit):
                found = (await self._client.get(f"{self.url}/slots")).json()
            return frozenset(int(slot["id"]) for slot in found if slot["is_processing"])
        except (TimeoutError, httpx.TransportError, ValueError, KeyError, TypeError):
            return frozenset()

    async def chunks(
        self, path: str, body: Json, kind: ServerKind, *, model: str, first_limit: float, limit: float
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The chunks of a streamed completion. Closing the generator closes the connection.

        Args:
            path, body: the POST request.
            kind, model: named in errors.
            first_limit: seconds of silence before the first piece of text.
            limit: seconds of silence from then on.

        Raises:
            EngineUnreachable: nobody answers at the address.
            EngineSilent: a limit was passed.
            StreamCut: the connection broke within the answer.
            EngineError: whatever `error_of` makes of another status than 200, or of an error in mid-stream.
        """
        response = await self._begin(path, body, kind, first_limit)
        try:
            if response.status_code != 200:
                refusal = self._refusal(response.status_code, await _text(response, limit))
                raise error_of(refusal, kind, model)
            silence = first_limit
            async with aclosing(EventSource(response).aiter_sse()) as events:
                while (event := await _next(events, kind, silence)) is not None and event.data.strip() != "[DONE]":
                    if not event.data:
                        continue
                    chunk = self._chunk(event.data, kind, model)
                    if says_something(chunk):
                        silence = limit
                    yield chunk
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Give back the connections."""
        await self._client.aclose()

    async def _begin(self, path: str, body: Json, kind: ServerKind, limit: float) -> httpx.Response:
        request = self._client.build_request("POST", self.url + path, json=body)
        try:
            async with asyncio.timeout(limit):
                return await self._client.send(request, stream=True)
        except TimeoutError:
            raise EngineSilent(engine=kind.label, seconds=limit) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol):
            raise EngineUnreachable(engine=kind.label, url=self.url) from None
        except httpx.TransportError:
            detail = "it closed the connection without an answer"
            raise EngineFailed(engine=kind.label, detail=detail) from None

    def _chunk(self, data: str, kind: ServerKind, model: str) -> dict[str, Any]:
        chunk = _object(data)
        if chunk is not None and "error" not in chunk:
            return chunk
        refusal = self._refusal(500, data)
        code = refusal.error.get("code")
        if isinstance(code, int):
            refusal = Refusal(code, refusal.words, refusal.error)
        raise error_of(refusal, kind, model)

    def _refusal(self, status: int, body: str) -> Refusal:
        return Refusal.read(status, body.replace(self._key, "***") if self._key else body)


async def _next(
    events: AsyncGenerator[ServerSentEvent, None], kind: ServerKind, limit: float
) -> ServerSentEvent | None:
    try:
        async with asyncio.timeout(limit):
            return await anext(events, None)
    except TimeoutError:
        raise EngineSilent(engine=kind.label, seconds=limit) from None
    except SSEError:  # one of httpx' transport errors, too
        raise EngineFailed(engine=kind.label, detail="its answer is not a stream of events") from None
    except httpx.TransportError:
        raise StreamCut(engine=kind.label) from None


async def _text(response: httpx.Response, limit: float) -> str:
    """The body of a refusal; its status says enough if the body does not come."""
    try:
        async with asyncio.timeout(limit):
            return (await response.aread()).decode("utf-8", "replace")
    except (TimeoutError, httpx.TransportError):
        return ""


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
