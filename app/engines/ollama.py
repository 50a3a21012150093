"""Ollama, by its /api/chat.

Spoken with httpx: the official client (0.6.3) cannot send `truncate` and `shift`, without which Ollama drops messages
and throws half of the context away in silence.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import httpx

from app.engines.base import (
    CompletionRequest,
    Delta,
    Done,
    EngineEvent,
    FinishReason,
    Loading,
    ModelInfo,
    Progress,
    Reading,
    Usage,
)
from app.engines.ollama_errors import error_of, words_of
from app.engines.reasoning import ThinkSplitter
from app.engines.speeds import SpeedBook
from app.errors import EngineError, EngineFailed, EngineSilent, EngineUnreachable, StreamCut

_CONNECT_SECONDS: Final = 5.0
# A model that answered this recently is taken to be in memory still. In seconds.
_TRUSTED_LOADED: Final = 30.0
# Prompt reading may take this many times its expected time before the engine counts as silent.
_READING_PATIENCE: Final = 3.0
_NANO: Final = 1e-9


class OllamaEngine:
    """An Ollama server.

    Args:
        url: of the server, without a slash at its end.
        num_batch, num_thread, keep_alive: sent alike with every request, or the model reloads; num_thread 0: not sent.
        timeout: seconds of silence after which a reply is given up.
        load_timeout: seconds that loading a model may take.
        models_timeout: seconds for questions that need no model.
        speeds: what is known of the models' speeds.
        slots: replies that it works on at once (OLLAMA_NUM_PARALLEL).
        client: for tests.
    """

    name: Final = "ollama"
    label: Final = "Ollama"

    def __init__(
        self,
        url: str,
        *,
        num_batch: int = 64,
        num_thread: int = 0,
        keep_alive: str = "-1",
        timeout: float = 120,
        load_timeout: float = 300,
        models_timeout: float = 5,
        speeds: SpeedBook | None = None,
        slots: int = 1,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self.url = url
        self.slots = slots
        self._fixed: dict[str, int] = {"num_batch": num_batch} | ({"num_thread": num_thread} if num_thread else {})
        # Ollama takes a number of seconds or a duration such as 5m; a bare number as text is refused.
        self._keep_alive: int | str = int(keep_alive) if keep_alive.lstrip("-").isdigit() else keep_alive
        self._timeout = timeout
        self._load_timeout = load_timeout
        self._models_timeout = models_timeout
        self._speeds = speeds or SpeedBook()
        self._client = client or httpx.AsyncClient(
            trust_env=False,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None),
        )
        self._answered_at: dict[tuple[str, int], float] = {}
        self._thinkers: set[str] = set()

    async def models(self) -> Sequence[ModelInfo]:
        """The chat models that it has."""
        tags, loaded = await asyncio.gather(self._get("/api/tags"), self._loaded())
        models = []
        for entry in tags.get("models") or []:
            capabilities = entry.get("capabilities")
            if capabilities is not None and "completion" not in capabilities:
                continue
            details = entry.get("details") or {}
            models.append(
                ModelInfo(
                    engine=self.name,
                    name=entry["name"],
                    size=entry.get("size"),
                    parameters=details.get("parameter_size") or "",
                    family=details.get("family") or "",
                    quantization=details.get("quantization_level") or "",
                    context_length=details.get("context_length"),
                    can_think="thinking" in (capabilities or ()),
                    loaded=entry["name"] in loaded,
                )
            )
        self._thinkers = {model.name for model in models if model.can_think}
        return models

    async def count_tokens(self, model: str, text: str) -> int | None:
        """None: Ollama has no endpoint that counts."""
        return None

    async def load(self, model: str, context_length: int) -> None:
        """Bring the model into memory: a chat without messages, with the options of all others."""
        body = self._body(model, context_length) | {"messages": [], "stream": False}
        try:
            async with asyncio.timeout(self._load_timeout):
                await self._post("/api/chat", body, model)
        except TimeoutError:
            raise EngineSilent(engine=self.label, seconds=self._load_timeout) from None
        self._answered_at[model, context_length] = time.monotonic()

    async def close(self) -> None:
        await self._client.aclose()

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
        """See `Engine.complete`. Ollama sends nothing, not even headers, before the first token."""
        began = time.monotonic()
        key = request.model, request.context_length
        speed = self._speeds.of(f"{self.name}/{request.model}")
        reading = request.expected_prompt_tokens / speed.prompt
        loading = 0.0
        if began - self._answered_at.get(key, -_TRUSTED_LOADED) >= _TRUSTED_LOADED and not await self._has_loaded(*key):
            yield Loading(speed.load_seconds + reading)
            await self.load(*key)
            loading = time.monotonic() - began
        yield Reading(seconds_left=reading)
        limit = self._timeout + self._load_timeout + _READING_PATIENCE * reading
        async with (
            self._stream("/api/chat", self._chat_body(request), request.model, limit) as lines,
            aclosing(self._deltas(lines, request.model, loading)) as events,
        ):
            async for event in events:
                if isinstance(event, Done):
                    self._answered_at[key] = time.monotonic()
                yield event

    async def _deltas(
        self, lines: AsyncIterator[dict[str, Any]], model: str, loading: float
    ) -> AsyncGenerator[Delta | Done, None]:
        splitter = ThinkSplitter()
        began = time.monotonic()
        first: float | None = None
        count = 0
        async for line in lines:
            message = line.get("message") or {}
            if first is None:
                first = time.monotonic()
            count += 1
            if thinking := message.get("thinking"):
                yield Delta(thinking, "reasoning")
            if content := message.get("content"):
                for delta in splitter.feed(content):
                    yield delta
            if line.get("done"):
                for delta in splitter.flush():
                    yield delta
                reason: FinishReason = "length" if line.get("done_reason") == "length" else "stop"
                yield Done(reason, _usage(line, loading))
                return
        # Closed in order, but without an end: Ollama's guard against more than 30 equal tokens in a row.
        for delta in splitter.flush():
            yield delta
        now = time.monotonic()
        first = now if first is None else first
        yield Done("repetition", Usage(None, count, loading, first - began, now - first))

    def _body(self, model: str, context_length: int) -> dict[str, Any]:
        return {
            "model": model,
            "keep_alive": self._keep_alive,
            "truncate": False,
            "shift": False,
            "options": {"num_ctx": context_length, **self._fixed},
        }

    def _chat_body(self, request: CompletionRequest) -> dict[str, Any]:
        body = self._body(request.model, request.context_length)
        body["messages"] = [{"role": message.role, "content": message.content} for message in request.messages]
        body["options"] |= {
            "num_predict": request.options.max_tokens,
            "temperature": request.options.temperature,
            "top_p": request.options.top_p,
        }
        if request.model in self._thinkers or request.options.think:
            body["think"] = request.options.think
        return body

    async def _loaded(self) -> dict[str, int]:
        """The models in memory, with the context length of each."""
        listed = (await self._get("/api/ps")).get("models") or []
        return {entry["name"]: int(entry.get("context_length") or 0) for entry in listed}

    async def _has_loaded(self, model: str, context_length: int) -> bool:
        return (await self._loaded()).get(model) == context_length

    async def pull(self, model: str) -> AsyncGenerator[Progress, None]:
        """Let Ollama fetch a model; yield how far it is, all its layers together.

        Raises:
            EngineError: it could not, in Ollama's words.
        """
        layers: dict[str, tuple[int, int]] = {}
        async with self._stream("/api/pull", {"model": model}, model, self._load_timeout, self._load_timeout) as lines:
            async for line in lines:
                if digest := line.get("digest"):
                    layers[digest] = (int(line.get("completed") or 0), int(line.get("total") or 0))
                    done, total = (sum(part) for part in zip(*layers.values(), strict=True))
                    yield Progress(done, total or None)
                if line.get("status") == "success":
                    return
        raise StreamCut(engine=self.label)

    async def _get(self, path: str) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._models_timeout):
                response = await self._client.get(self.url + path)
        except (httpx.TransportError, TimeoutError):
            raise EngineUnreachable(engine=self.label, url=self.url) from None
        return _object(response, "")

    async def _post(self, path: str, body: dict[str, Any], model: str) -> dict[str, Any]:
        try:
            response = await self._client.post(self.url + path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise EngineUnreachable(engine=self.label, url=self.url) from None
        except httpx.TransportError:
            raise StreamCut(engine=self.label) from None
        return _object(response, model)

    @asynccontextmanager
    async def _stream(
        self, path: str, body: dict[str, Any], model: str, first_limit: float, limit: float | None = None
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The JSON lines of an answer.

        Args:
            path, body: the request.
            model: named in errors.
            first_limit: seconds until the answer begins.
            limit: seconds of silence within it; by default the engine's.
        """
        limit = limit or self._timeout
        request = self._client.build_request("POST", self.url + path, json=body)
        try:
            async with asyncio.timeout(first_limit):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            raise EngineSilent(engine=self.label, seconds=first_limit) from None
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise EngineUnreachable(engine=self.label, url=self.url) from None
        except httpx.TransportError:
            raise StreamCut(engine=self.label) from None
        try:
            if response.status_code != 200:
                raise error_of(response.status_code, words_of(await _text(response)), model)
            async with aclosing(self._lines(response, model, limit)) as lines:
                yield lines
        finally:
            await response.aclose()

    async def _lines(self, response: httpx.Response, model: str, limit: float) -> AsyncGenerator[dict[str, Any], None]:
        rest = b""
        chunks = response.aiter_raw()
        while True:
            try:
                async with asyncio.timeout(limit):
                    chunk = await anext(chunks, None)
            except TimeoutError:
                raise EngineSilent(engine=self.label, seconds=limit) from None
            except httpx.TransportError:
                raise StreamCut(engine=self.label) from None
            *lines, rest = (rest + chunk).split(b"\n") if chunk is not None else (rest, b"")
            for line in lines:
                if line:
                    yield self._line(line, model)
            if chunk is None:
                return

    def _line(self, line: bytes, model: str) -> dict[str, Any]:
        try:
            found = json.loads(line)
        except ValueError:
            raise EngineFailed(engine=self.label, detail="it sent a line that is not JSON") from None
        if not isinstance(found, dict):
            raise EngineFailed(engine=self.label, detail="it sent a line that is not an object")
        if "error" in found:
            raise error_of(200, str(found["error"]), model)
        return found


def _usage(line: dict[str, Any], loading: float) -> Usage:
    """The counts of a last line; zero counts are left out of it."""
    return Usage(
        prompt_tokens=int(line.get("prompt_eval_count", 0)),
        reply_tokens=int(line.get("eval_count", 0)),
        load_seconds=loading + line.get("load_duration", 0) * _NANO,
        prompt_seconds=line.get("prompt_eval_duration", 0) * _NANO,
        generation_seconds=line.get("eval_duration", 0) * _NANO,
    )


async def _text(response: httpx.Response) -> str:
    try:
        return (await response.aread()).decode("utf-8", "replace")
    except httpx.TransportError:
        return ""


def _object(response: httpx.Response, model: str) -> dict[str, Any]:
    if response.status_code != 200:
        raise error_of(response.status_code, words_of(response.text), model)
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise EngineError(engine="Ollama", detail="something else answers at its address")
    return found
