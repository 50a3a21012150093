"""Servers with OpenAI's API: vLLM, llama.cpp, LM Studio, `transformers serve`.

llama.cpp is known by its /props, and tells more: true progress of the prompt, cached tokens, timings, exact counts.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
from httpx_sse import EventSource, SSEError
from pydantic import SecretStr

from app.engines.base import (
    CompletionRequest,
    Delta,
    Done,
    EngineEvent,
    FinishReason,
    Loading,
    ModelInfo,
    Reading,
    Usage,
)
from app.engines.reasoning import ThinkSplitter
from app.engines.speeds import SpeedBook
from app.errors import (
    EngineError,
    EngineFailed,
    EngineRefused,
    EngineSilent,
    EngineUnreachable,
    ModelMissing,
    OutOfMemory,
    PromptTooLong,
    StreamCut,
)

_CONNECT_SECONDS: Final = 5.0
_READING_PATIENCE: Final = 3.0
# llama.cpp answers 503 while it loads its model.
_LOADING_PAUSE: Final = 0.5
# vLLM's words for a prompt that is too long: the limit comes first, then the size.
_VLLM_TOO_LONG: Final = re.compile(r"maximum context length is (\d+) tokens.*?(\d+) (?:input )?tokens", re.S)


@dataclass(frozen=True, slots=True)
class ServerKind:
    """What answers at the URL.

    Attributes:
        label: its name.
        context_length: the context length of one slot, where the server tells.
        slots: completions that it works on at once.
        thinks: its chat template can turn reasoning on and off.
        llama_cpp: it understands llama.cpp's additions.
    """

    label: str = "vLLM"
    context_length: int | None = None
    slots: int = 64
    thinks: bool = False
    llama_cpp: bool = False


class OpenAICompatibleEngine:
    """A server with OpenAI's chat completions.

    Args:
        url: with or without /v1 at its end.
        api_key: sent as a bearer token; never in a message or a log line.
        timeout: seconds of silence after which a reply is given up.
        load_timeout: seconds that a server may say that it is loading.
        models_timeout: seconds for questions that need no model.
        speeds: what is known of the models' speeds.
        client: for tests.
    """

    name: Final = "vllm"

    def __init__(
        self,
        url: str,
        *,
        api_key: SecretStr | None = None,
        timeout: float = 120,
        load_timeout: float = 300,
        models_timeout: float = 5,
        speeds: SpeedBook | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        self._root = url.rstrip("/").removesuffix("/v1")
        self._timeout = timeout
        self._load_timeout = load_timeout
        self._models_timeout = models_timeout
        self._speeds = speeds or SpeedBook()
        self._kind: ServerKind | None = None
        headers = {"Authorization": f"Bearer {api_key.get_secret_value()}"} if api_key else {}
        self._client = client or httpx.AsyncClient(
            trust_env=False,
            headers=headers,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=None),
        )

    @property
    def label(self) -> str:
        return (self._kind or ServerKind()).label

    @property
    def slots(self) -> int:
        return (self._kind or ServerKind()).slots

    async def models(self) -> Sequence[ModelInfo]:
        """The models of /v1/models."""
        self._kind = kind = await self._find_kind()
        listed = _object(await self._ask("GET", "/v1/models"))
        models = []
        for entry in listed.get("data") or []:
            meta = entry.get("meta") or {}
            context = entry.get("max_model_len") or kind.context_length
            models.append(
                ModelInfo(
                    engine=self.name,
                    name=str(entry["id"]),
                    size=meta.get("size"),
                    context_length=context,
                    context_fixed=context is not None,
                    can_think=kind.thinks if kind.llama_cpp else "qwen3" in str(entry["id"]).lower(),
                    loaded=True,
                )
            )
        return models

    async def _find_kind(self) -> ServerKind:
        """Ask once what answers there."""
        if self._kind is not None:
            return self._kind
        response = await self._ask("GET", "/props")
        if response.status_code == 200:
            try:
                props = response.json()
                return ServerKind(
                    label="llama.cpp",
                    context_length=int(props["default_generation_settings"]["n_ctx"]),
                    slots=int(props.get("total_slots") or 1),
                    thinks="enable_thinking" in (props.get("chat_template") or ""),
                    llama_cpp=True,
                )
            except (ValueError, KeyError, TypeError):
                return ServerKind()
        return ServerKind()

    async def count_tokens(self, model: str, text: str) -> int | None:
        """Exact with llama.cpp, None with others."""
        if self._kind is None or not self._kind.llama_cpp:
            return None
        response = await self._ask("POST", "/tokenize", {"content": text})
        return len(_object(response).get("tokens") or []) if response.status_code == 200 else None

    async def load(self, model: str, context_length: int) -> None:
        """Wait until the server is ready; it has loaded its model by itself."""
        async for _ in self._until_ready():
            pass

    async def close(self) -> None:
        await self._client.aclose()

    async def _until_ready(self) -> AsyncIterator[Loading]:
        """Yield Loading while the server says 503 on /health (llama.cpp's and vLLM's word for it)."""
        deadline = time.monotonic() + self._load_timeout
        said = False
        while (await self._ask("GET", "/health")).status_code == 503:
            if not said:
                said = True
                yield Loading()
            if time.monotonic() > deadline:
                raise EngineSilent(engine=self.label, seconds=self._load_timeout)
            await asyncio.sleep(_LOADING_PAUSE)

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
        """See `Engine.complete`."""
        kind = self._kind = await self._find_kind()
        speed = self._speeds.of(f"{self.name}/{request.model}")
        reading = request.expected_prompt_tokens / speed.prompt
        if not kind.llama_cpp:
            yield Reading(seconds_left=reading)
        limit = self._timeout + _READING_PATIENCE * reading
        for ready in (False, True):
            try:
                async with (
                    self._stream(self._body(request, kind), request.model, limit) as chunks,
                    aclosing(self._events(chunks, request.model)) as events,
                ):
                    async for event in events:
                        yield event
                return
            except _StillLoading as loading:
                if ready:
                    raise EngineFailed(engine=self.label, detail=str(loading)) from None
            async for waiting in self._until_ready():
                yield waiting

    def _body(self, request: CompletionRequest, kind: ServerKind) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": request.options.temperature,
            "top_p": request.options.top_p,
            "max_tokens": request.options.max_tokens,
        }
        if kind.thinks or "qwen3" in request.model.lower():
            body["chat_template_kwargs"] = {"enable_thinking": request.options.think}
        if kind.llama_cpp:
            body |= {"return_progress": True, "cache_prompt": True}
        return body

    async def _events(
        self, chunks: AsyncIterator[dict[str, Any]], model: str
    ) -> AsyncGenerator[Reading | Delta | Done, None]:
        splitter = ThinkSplitter()
        began = time.monotonic()
        first: float | None = None
        count = 0
        reason: str | None = None
        usage: dict[str, Any] = {}
        timings: dict[str, Any] = {}
        async for chunk in chunks:
            if "error" in chunk:
                raise self._error(500, chunk, model)
            usage, timings = chunk.get("usage") or usage, chunk.get("timings") or timings
            if progress := chunk.get("prompt_progress"):
                yield Reading(int(progress["processed"]), int(progress["total"]), _seconds_left(progress))
            for choice in chunk.get("choices") or []:
                delta = choice.get("delta") or {}
                reason = choice.get("finish_reason") or reason
                text, reasoning = delta.get("content"), delta.get("reasoning_content") or delta.get("reasoning")
                if text or reasoning:
                    first = first or time.monotonic()
                    count += 1
                if reasoning:
                    yield Delta(reasoning, "reasoning")
                for piece in splitter.feed(text) if text else ():
                    yield piece
        for piece in splitter.flush():
            yield piece
        if reason is None and not count:
            raise StreamCut(engine=self.label)
        now = time.monotonic()
        first = first or now
        # A stream that ends in order but without a reason is an Ollama's guard against repetition.
        finish: FinishReason = "repetition" if reason is None else "length" if reason == "length" else "stop"
        yield Done(finish, _usage(usage, timings, first - began, now - first))

    @asynccontextmanager
    async def _stream(
        self, body: dict[str, Any], model: str, first_limit: float
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        request = self._client.build_request("POST", f"{self._root}/v1/chat/completions", json=body)
        try:
            async with asyncio.timeout(first_limit):
                response = await self._client.send(request, stream=True)
        except TimeoutError:
            raise EngineSilent(engine=self.label, seconds=first_limit) from None
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise EngineUnreachable(engine=self.label, url=self._root) from None
        except httpx.TransportError:
            raise StreamCut(engine=self.label) from None
        try:
            if response.status_code != 200:
                raise self._error(response.status_code, _parsed(await _text(response)), model)
            async with aclosing(self._chunks(response, first_limit)) as chunks:
                yield chunks
        finally:
            await response.aclose()

    async def _chunks(self, response: httpx.Response, first_limit: float) -> AsyncGenerator[dict[str, Any], None]:
        """The JSON of each event, until [DONE] or the end."""
        events = EventSource(response).aiter_sse()
        limit = first_limit  # headers may come at once, the first token later
        while True:
            try:
                async with asyncio.timeout(limit):
                    event = await anext(events, None)
            except TimeoutError:
                raise EngineSilent(engine=self.label, seconds=limit) from None
            except httpx.TransportError:
                raise StreamCut(engine=self.label) from None
            except SSEError:
                raise EngineFailed(engine=self.label, detail="its answer is not an event stream") from None
            if event is None or event.data.strip() == "[DONE]":
                return
            if not event.data:
                continue
            chunk = _parsed(event.data)
            if chunk.get("choices") and (chunk["choices"][0].get("delta") or {}).get("content"):
                limit = self._timeout
            yield chunk

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            async with asyncio.timeout(self._models_timeout):
                response = await self._client.request(method, self._root + path, json=body)
        except (httpx.TransportError, TimeoutError):
            raise EngineUnreachable(engine=self.label, url=self._root) from None
        if response.status_code in (401, 403):
            raise self._error(response.status_code, {}, "")
        return response

    def _error(self, status: int, answer: dict[str, Any], model: str) -> EngineError:
        found = answer.get("error", answer)
        error: dict[str, Any] = found if isinstance(found, dict) else {"message": found}
        words = str(error.get("message") or answer.get("detail") or f"HTTP {status}")
        if error.get("type") == "exceed_context_size_error" and "n_prompt_tokens" in error:
            return PromptTooLong(engine=self.label, tokens=int(error["n_prompt_tokens"]), limit=int(error["n_ctx"]))
        if told := _VLLM_TOO_LONG.search(words):
            limit, tokens = (int(number) for number in told.groups())
            return PromptTooLong(engine=self.label, tokens=tokens, limit=limit)
        if status in (401, 403):
            return EngineRefused(engine=self.label, detail="it wants a key; set VLLM_API_KEY")
        if status == 404:
            return ModelMissing(engine=self.label, model=model, remedy="start the server with that model")
        if status == 503 and "load" in words.lower():
            return _StillLoading(engine=self.label, detail=words)
        if "out of memory" in words.lower():
            return OutOfMemory(engine=self.label, model=model)
        return (EngineRefused if 400 <= status < 500 else EngineFailed)(engine=self.label, detail=words[:300])


class _StillLoading(EngineFailed):
    """The server has not loaded its model yet."""


def _seconds_left(progress: dict[str, Any]) -> float | None:
    """From llama.cpp's prompt_progress: total, cache, processed, time_ms."""
    done = progress["processed"] - progress.get("cache", 0)
    left = progress["total"] - progress["processed"]
    return progress["time_ms"] / 1000 / done * left if done > 0 and progress.get("time_ms") else None


def _usage(usage: dict[str, Any], timings: dict[str, Any], prompt_seconds: float, generation_seconds: float) -> Usage:
    """The server's counts; its times where it tells them, else our own clock's."""
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=usage.get("prompt_tokens"),
        reply_tokens=usage.get("completion_tokens"),
        load_seconds=0.0,
        prompt_seconds=timings["prompt_ms"] / 1000 if "prompt_ms" in timings else prompt_seconds,
        generation_seconds=timings["predicted_ms"] / 1000 if "predicted_ms" in timings else generation_seconds,
        cached_tokens=details.get("cached_tokens"),
    )


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": " ".join(text.split())[:200] or "an empty answer"}


async def _text(response: httpx.Response) -> str:
    try:
        return (await response.aread()).decode("utf-8", "replace")
    except httpx.TransportError:
        return ""


def _object(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != 200:
        raise EngineFailed(engine="The server", detail=f"HTTP {response.status_code}")
    return _parsed(response.text)
