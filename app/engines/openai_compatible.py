"""Servers with OpenAI's API: vLLM, llama.cpp, LM Studio, `transformers serve`.

llama.cpp tells more than the others: true progress of the prompt, cached tokens, timings, exact counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, Literal

import httpx
from pydantic import SecretStr

from app.engines.base import CompletionRequest, Embeddings, EngineEvent, Feature, Loading, ModelInfo, Reading
from app.engines.llama_slots import LlamaSlots
from app.engines.openai_errors import PromptLargerThan, Refusal, StillLoading, embed_error_of, error_of
from app.engines.openai_http import Json, OpenAIHttp
from app.engines.openai_request import CHAT, RAW, Body, body_of, counted_of
from app.engines.openai_server import (
    OTHER,
    VLLM,
    ServerKind,
    entries_of,
    kind_by_models,
    kind_by_paths,
    kind_by_props,
    model_of,
)
from app.engines.openai_stream import events_of
from app.engines.speeds import Speed, SpeedBook
from app.errors import EngineFailed, EngineSilent, EngineUnreachable, PromptTooLong, Unsupported

# Prompt reading may take this many times its expected time before the engine counts as silent.
_READING_PATIENCE: Final = 3.0
# Between two questions whether a server has loaded its model; it does not announce that.
_LOADING_PAUSE: Final = 0.5
# What is only good to know before a reply must not keep it waiting. In seconds.
_ASIDE_SECONDS: Final = 1.0
# Texts embedded by one request: its answer comes at once for all, so that only few count as one silence.
_EMBEDDED_AT_ONCE: Final = 16


class OpenAICompatibleEngine:
    """A server with OpenAI's chat completions.

    Args:
        url: with or without /v1 at its end.
        api_key: sent as a bearer token; never in a message or a log line.
        timeout: seconds of silence after which a reply is given up.
        load_timeout: seconds that loading a model may take.
        models_timeout: seconds for questions that need no model.
        speeds: what is known of the models' speeds.
        client: for tests.
    """

    name: Final = "vllm"
    # llama.cpp moves what stays of a cut conversation only where it is started so, and does not tell.
    moves_cache: Final = False

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
        self._http = OpenAIHttp(url, api_key, client)
        self._timeout = timeout
        self._load_timeout = load_timeout
        self._models_timeout = models_timeout
        self._speeds = speeds or SpeedBook()
        self._kind: ServerKind | None = None
        self._models: tuple[ModelInfo, ...] = ()
        self._slots = LlamaSlots()

    @property
    def label(self) -> str:
        return self._known.label

    @property
    def slots(self) -> int:
        return self._known.slots

    @property
    def features(self) -> frozenset[Feature]:
        kind = self._known
        return kind.features - {"continue"} if kind.continues == "not" else kind.features

    @property
    def keeps_prompts(self) -> bool:
        """See `CachingEngine`: llama.cpp does. vLLM does too, but it works on many requests at once."""
        return self._known.tells_progress

    def cache_room(self, model: str) -> int | None:
        """See `CachingEngine.cache_room`: nobody tells."""
        return None

    @property
    def _known(self) -> ServerKind:
        """What answers at the URL; until it has, what the setting is named after."""
        return self._kind or VLLM

    async def models(self) -> Sequence[ModelInfo]:
        """The models of /v1/models; while a llama.cpp loads its model, the ones that it had before."""
        try:
            await self._look()
        except StillLoading:
            if not self._models:
                raise
            return [replace(model, loaded=False) for model in self._models]
        return self._models

    async def count_tokens(self, model: str, text: str) -> int | None:
        """Tokens of `text` by llama.cpp's /tokenize; None from the others."""
        if not self._known.tells_progress:
            return None
        answer = await self._ask("POST", "/tokenize", {"content": text})
        tokens = None if isinstance(answer, Refusal) else answer.get("tokens")
        return len(tokens) if isinstance(tokens, list) else None

    async def embed(self, model: str, texts: Sequence[str], context_length: int) -> Embeddings:
        """See `Engine.embed`. These servers refuse a text that is too long, unless told to cut it."""
        vectors: list[tuple[float, ...]] = []
        tokens: int | None = 0
        for first in range(0, len(texts), _EMBEDDED_AT_ONCE):
            some = list(texts[first : first + _EMBEDDED_AT_ONCE])
            kind = self._known
            limit = self._timeout + self._load_timeout * kind.loads_on_demand
            body = {"model": model, "input": some, "encoding_format": "float"}
            found = await self._http.ask("POST", "/v1/embeddings", kind, limit=limit, body=body)
            if isinstance(found, Refusal):
                raise embed_error_of(found, kind, model)
            vectors += self._vectors(found, len(some))
            counted = (found.get("usage") or {}).get("prompt_tokens")
            tokens = None if tokens is None or counted is None else tokens + counted
        return Embeddings(tuple(vectors), tokens)

    def _vectors(self, found: Json, wanted: int) -> list[tuple[float, ...]]:
        try:
            data = sorted(found["data"], key=lambda entry: int(entry["index"]))
            vectors = [tuple(map(float, entry["embedding"])) for entry in data]
        except (KeyError, TypeError, ValueError):
            raise EngineFailed(engine=self.label, detail="what it sent are no vectors") from None
        if len(vectors) != wanted:
            raise EngineFailed(engine=self.label, detail="it gave another number of vectors than of texts")
        return vectors

    async def load(self, model: str, context_length: int) -> None:
        """Wait until the server has loaded its model, which it does by itself."""
        async with aclosing(self._until_loaded()) as loading:
            async for _ in loading:
                pass

    async def close(self) -> None:
        await self._http.close()

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
        """See `Engine.complete`."""
        began = time.monotonic()
        loading = 0.0
        for attempt in range(2):
            if self._kind is None or attempt:
                async with aclosing(self._until_loaded()) as waits:
                    async for wait in waits:
                        yield wait
                loading = time.monotonic() - began
            try:
                slots = self.slots if self._known.tells_progress and not self._known.loads_on_demand else 1
                asks = slots > 1 and request.conversation is not None
                working = await self._http.slots_at_work(_ASIDE_SECONDS) if asks else ()
                with self._slots.taken(request.conversation, slots, working) as slot:
                    async with aclosing(self._attempt(request, loading, slot)) as events:
                        async for event in events:
                            yield event
                return
            except StillLoading:
                # It has been started anew since it was last asked.
                self._slots.forget()
                if attempt:
                    raise

    async def _attempt(
        self, request: CompletionRequest, loading: float, slot: int | None
    ) -> AsyncGenerator[EngineEvent, None]:
        kind = self._known
        self._check(request, kind)
        speed = self._speeds.of(f"{self.name}/{request.model}")
        reading = request.expected_prompt_tokens / speed.prompt
        if not kind.tells_progress:
            # The speed of a model that has not answered yet is that of another machine.
            yield Reading(seconds_left=None if speed == Speed() else reading)
        body = body_of(request, kind, slot)
        chunks = self._http.chunks(
            RAW if request.raw else CHAT,
            body,
            kind,
            model=request.model,
            first_limit=self._timeout + _READING_PATIENCE * reading + self._load_timeout * kind.loads_on_demand,
            limit=self._timeout,
        )
        events = events_of(
            chunks,
            kind,
            inside=kind.begins_with_reasoning(request.model),
            begun=request.continues,
            raw=request.raw,
            stop=request.options.stop if kind.keeps_stop_text else (),
            load_seconds=loading,
        )
        async with aclosing(chunks), aclosing(events):
            try:
                async for event in events:
                    yield event
            except PromptLargerThan as bound:
                raise await self._counted(bound, body) from None

    def _check(self, request: CompletionRequest, kind: ServerKind) -> None:
        """What this server would leave out without a word is refused."""
        parameter = None
        model = next((model for model in self._models if model.name == request.model), None)
        if request.continues and kind.continues == "not":
            parameter = "messages"
        if request.raw and request.options.json is not None:
            parameter = "response_format"
        if request.uses_tools and (request.raw or (model is not None and model.can_use_tools is False)):
            parameter = "tools"
        if parameter is not None:
            raise Unsupported(parameter=parameter, model=request.model, engine=kind.label)

    async def _counted(self, bound: PromptLargerThan, body: Body) -> PromptTooLong:
        """vLLM counts no further than to its limit when it refuses, but its /tokenize does."""
        answer = await self._ask("POST", "/tokenize", counted_of(body))
        count = None if isinstance(answer, Refusal) else answer.get("count")
        tokens = count if isinstance(count, int) else bound.tokens
        return PromptTooLong(engine=self.label, tokens=max(tokens, bound.tokens), limit=bound.limit)

    async def _until_loaded(self) -> AsyncGenerator[Loading, None]:
        """Find out what answers there; while it loads its model (llama.cpp: a 503 to everything) say so, once."""
        deadline = time.monotonic() + self._load_timeout
        said = False
        while True:
            try:
                await self._look()
                return
            except StillLoading:
                if time.monotonic() > deadline:
                    raise EngineSilent(engine=self.label, seconds=self._load_timeout) from None
            if not said:
                said = True
                yield Loading()
            await asyncio.sleep(_LOADING_PAUSE)

    async def _look(self) -> None:
        """Ask what answers there and which models it has: it may have been started anew with others."""
        props = await self._ask("GET", "/props")
        if isinstance(props, Refusal):
            error = error_of(props, self._known, "")
            if isinstance(error, StillLoading):
                raise error
            kind = None
        else:
            kind = kind_by_props(props)
        listed = await self._ask("GET", "/v1/models")
        if isinstance(listed, Refusal):
            raise error_of(listed, kind or self._known, "")
        entries = entries_of(listed)
        if entries is None:
            raise EngineFailed(engine=self.label, detail="what it sent is no list of models; check VLLM_URL")
        kind = kind or kind_by_models(entries)
        if kind is OTHER:
            openapi = await self._ask("GET", "/openapi.json")
            kind = (None if isinstance(openapi, Refusal) else kind_by_paths(openapi)) or kind
        self._kind = kind
        self._models = tuple(model_of(self.name, kind, entry) for entry in entries)

    async def _ask(
        self, method: Literal["GET", "POST"], path: str, body: Json | None = None
    ) -> dict[str, Any] | Refusal:
        try:
            return await self._http.ask(method, path, self._known, limit=self._models_timeout, body=body)
        except EngineSilent:
            raise EngineUnreachable(engine=self.label, url=self._http.url) from None
