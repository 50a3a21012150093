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
from app.engines.openai_errors import PromptLargerThan, Refusal, StillLoading, error_of
from app.engines.openai_http import Json, OpenAIHttp
from app.engines.openai_server import VLLM, ServerKind, chat_entries, kind_by_models, kind_by_props, model_of
from app.engines.openai_stream import events_of
from app.engines.speeds import Speed, SpeedBook
from app.errors import EngineFailed, EngineRefused, EngineSilent, PromptTooLong

# Prompt reading may take this many times its expected time before the engine counts as silent.
_READING_PATIENCE: Final = 3.0
# Between two questions whether a server has loaded its model; it does not announce that.
_LOADING_PAUSE: Final = 0.5


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
    features: Final[frozenset[Feature]] = frozenset()

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

    @property
    def label(self) -> str:
        return self._known.label

    @property
    def slots(self) -> int:
        return self._known.slots

    @property
    def _known(self) -> ServerKind:
        """What answers at the URL; until it has, what the setting is named after."""
        return self._kind or VLLM

    async def models(self) -> Sequence[ModelInfo]:
        """The chat models of /v1/models; while a llama.cpp loads its model, the ones that it had before."""
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
        """See `Engine.embed`."""
        raise EngineRefused(engine=self.label, detail="it makes no embeddings")

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
                async with aclosing(self._attempt(request, loading)) as events:
                    async for event in events:
                        yield event
                return
            except StillLoading:
                # It has been started anew since it was last asked.
                if attempt:
                    raise

    async def _attempt(self, request: CompletionRequest, loading: float) -> AsyncGenerator[EngineEvent, None]:
        kind = self._known
        speed = self._speeds.of(f"{self.name}/{request.model}")
        reading = request.expected_prompt_tokens / speed.prompt
        if not kind.tells_progress:
            # The speed of a model that has not answered yet is that of another machine.
            yield Reading(seconds_left=None if speed == Speed() else reading)
        body = self._body(request, kind)
        chunks = self._http.chunks(
            body,
            kind,
            model=request.model,
            first_limit=self._timeout + _READING_PATIENCE * reading + self._load_timeout * kind.loads_on_demand,
            limit=self._timeout,
        )
        inside = kind.begins_with_reasoning(request.model)
        async with aclosing(chunks), aclosing(events_of(chunks, kind, inside=inside, load_seconds=loading)) as events:
            try:
                async for event in events:
                    yield event
            except PromptLargerThan as bound:
                raise await self._counted(bound, body) from None

    def _body(self, request: CompletionRequest, kind: ServerKind) -> dict[str, Any]:
        """`max_tokens`, as not all know its successor; fields that a server may refuse go to those that know them."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": request.options.temperature,
            "top_p": request.options.top_p,
            "max_tokens": request.options.max_tokens,
        }
        if kind.can_think(request.model):
            body["chat_template_kwargs"] = {"enable_thinking": request.options.think}
        if kind.tells_progress:
            body |= {"return_progress": True, "cache_prompt": True}
        return body

    async def _counted(self, bound: PromptLargerThan, body: dict[str, Any]) -> PromptTooLong:
        """vLLM counts no further than to its limit when it refuses, but its /tokenize does."""
        sampling = ("stream", "stream_options", "temperature", "top_p", "max_tokens")
        prompt = {key: value for key, value in body.items() if key not in sampling}
        answer = await self._ask("POST", "/tokenize", prompt)
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
        entries = chat_entries(listed)
        if entries is None:
            raise EngineFailed(engine=self.label, detail="what it sent is no list of models; check VLLM_URL")
        self._kind = kind = kind or kind_by_models(entries)
        self._models = tuple(model_of(self.name, kind, entry) for entry in entries)

    async def _ask(
        self, method: Literal["GET", "POST"], path: str, body: Json | None = None
    ) -> dict[str, Any] | Refusal:
        return await self._http.ask(method, path, self._known, limit=self._models_timeout, body=body)
