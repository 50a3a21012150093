"""Ollama, by its /api/chat; raw text by /api/generate, vectors by /api/embed.

Spoken with httpx: the official client (0.6.3) cannot send `truncate` and `shift`, without which Ollama drops messages
and throws half of the context away in silence.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Final

import httpx

from app.engines.base import (
    ALL_FEATURES,
    CompletionRequest,
    Embeddings,
    EngineEvent,
    Feature,
    Loading,
    ModelInfo,
    Progress,
    Reading,
)
from app.engines.ollama_errors import LABEL
from app.engines.ollama_fit import check_fit, kv_bytes
from app.engines.ollama_http import OllamaHttp
from app.engines.ollama_memory import Load, Memory, Part, parts_of
from app.engines.ollama_protocol import (
    PullReader,
    Running,
    Show,
    Tags,
    Vectors,
    Version,
    answer,
    full_name,
)
from app.engines.ollama_reply import ReplyReader
from app.engines.ollama_request import Body, asked_of, sampling_of
from app.engines.speeds import SpeedBook
from app.errors import EngineError, EngineFailed, EngineSilent, EngineUnreachable, StreamCut, Unsupported
from app.machine import MIB
from app.sizing import KV_BYTES, model_bytes

# What is only good to know before a reply must not keep it waiting. In seconds.
_ASIDE_SECONDS: Final = 1.0
# Prompt reading may take this many times its expected time before the engine counts as silent.
_READING_PATIENCE: Final = 3.0
# Texts embedded by one request: its answer comes at once for all, so that only few count as one silence.
_EMBEDDED_AT_ONCE: Final = 16


class OllamaEngine:
    """An Ollama server.

    Args:
        url: of the server, without a slash at its end.
        num_batch, num_thread, keep_alive: sent alike with every request, or the model reloads; num_thread 0: not sent.
        timeout: seconds of silence after which a reply is given up.
        load_timeout: seconds that loading a model may take, and that a download may be silent.
        models_timeout: seconds for questions that need no model.
        speeds: what is known of the models' speeds.
        slots: replies that it works on at once (OLLAMA_NUM_PARALLEL).
        memory: MiB that a model's process may take; a model that needs more is refused. 0: not known.
        cache_mib: MiB of its prompt cache (LLAMA_ARG_CACHE_RAM); a negative number: without bound.
        moves_cache: see `CachingEngine` (LLAMA_ARG_CACHE_REUSE).
        client: used in place of its own, and closed with the engine.
        clock: seconds, monotonic.
    """

    name: Final = "ollama"
    # It lets the model choose among the functions, whatever it is told (docs.ollama.com/capabilities/tool-calling).
    features: Final[frozenset[Feature]] = ALL_FEATURES - {"tool_choice"}
    label: Final = LABEL

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
        memory: int = 0,
        cache_mib: int = -1,
        moves_cache: bool = False,
        client: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.slots = slots
        self._http = OllamaHttp(url, client)
        self._options = {"num_batch": num_batch} | ({"num_thread": num_thread} if num_thread else {})
        # A bare number, in seconds, is refused as text; anything else is a duration such as 5m.
        self._keep_alive = int(keep_alive) if re.fullmatch(r"-?\d+", keep_alive) else keep_alive
        self._keeps = re.fullmatch(r"0+[a-z]*", keep_alive) is None
        self._timeout = timeout
        self._load_timeout = load_timeout
        self._models_timeout = models_timeout
        self._speeds = speeds or SpeedBook()
        self._clock = clock
        self._memory = Memory(clock)
        self._memory_limit = memory
        self._cache_mib = cache_mib
        self.moves_cache = moves_cache
        # Bytes of key-value cache for each token, by model, where Ollama was asked.
        self._kv_bytes: dict[str, int] = {}
        self._known: dict[str, ModelInfo] = {}
        self._own_stops: dict[str, tuple[str, ...]] = {}

    async def version(self) -> str:
        """Ollama's version: the cheapest question, to see whether it is there.

        Raises:
            EngineUnreachable: nobody answers, or not in time.
            EngineError: another program does.
        """
        return answer(Version, await self._get("/api/version")).version

    async def models(self) -> Sequence[ModelInfo]:
        """The models that it has, those that only embed among them.

        Raises:
            EngineUnreachable: nobody answers, or not in time.
            EngineError: another program does.
        """
        tags, running = await asyncio.gather(self._get("/api/tags"), self._running())
        models = answer(Tags, tags).infos(self.name, running)
        if [(model.name, model.size) for model in models] != [(name, was.size) for name, was in self._known.items()]:
            self._own_stops.clear()
        self._known = {model.name: model for model in models}
        return models

    @property
    def keeps_prompts(self) -> bool:
        """See `CachingEngine`."""
        return self._keeps

    def cache_room(self, model: str) -> int | None:
        """See `CachingEngine.cache_room`. Of a model that was not asked about, gemma2:2b's size is taken."""
        if self._cache_mib < 0:
            return None
        return self._cache_mib * MIB // self._kv_bytes.get(model, KV_BYTES)

    async def count_tokens(self, model: str, text: str) -> int | None:
        """None: Ollama has no endpoint that counts."""
        return None

    async def embed(self, model: str, texts: Sequence[str], context_length: int) -> Embeddings:
        """See `Engine.embed`. A text that the model cannot read whole is refused (`truncate: false`)."""
        body = self._body((model, context_length)) | {"truncate": False}
        del body["shift"]
        info = await self._info(model)
        if info is not None and not info.can_chat:
            # Such a model reads a text at once or not at all: it has to fit one batch (llama-server's rule).
            body["options"] = {**self._options, "num_ctx": context_length, "num_batch": context_length}
        vectors: list[tuple[float, ...]] = []
        tokens: int | None = 0
        for first in range(0, len(texts), _EMBEDDED_AT_ONCE):
            some = list(texts[first : first + _EMBEDDED_AT_ONCE])
            self._memory.embedded(model)
            limit = self._load_timeout + self._timeout
            found = answer(
                Vectors,
                await self._http.ask("POST", "/api/embed", limit=limit, model=model, body=body | {"input": some}),
            )
            if len(found.embeddings) != len(some):
                raise EngineFailed(engine=self.label, detail="it gave another number of vectors than of texts")
            vectors += map(tuple, found.embeddings)
            tokens = None if tokens is None or found.prompt_eval_count is None else tokens + found.prompt_eval_count
        return Embeddings(tuple(vectors), tokens)

    async def load(self, model: str, context_length: int) -> None:
        """Bring the model into memory: a chat without messages, with the very options of all others.

        With a keep_alive of 0 there is nothing to do: such a request would unload it (recorded: unload).

        Args:
            model: its name.
            context_length: num_ctx, in tokens.

        Raises:
            EngineSilent: not within the load timeout.
            ModelTooLarge: it does not fit the memory.
            EngineError: it could not.
        """
        if not self._keeps:
            return
        await self._check_fit(model, context_length)
        load = model, context_length
        body = self._body(load) | {"messages": [], "stream": False}
        with self._memory.loading(load):
            await self._http.ask("POST", "/api/chat", limit=self._load_timeout, model=model, body=body)

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
        """See `Engine.complete`.

        Ollama sends nothing, not even headers, before the first token. So loading is asked for apart, to know when it
        ends, and the time until the first token has a limit of its own.

        Raises:
            EngineError: Ollama's failure, as `ollama_errors` and `ollama_http` have it.
        """
        load = request.model, request.context_length
        prompt = parts_of(request)
        speed = self._speeds.of(f"{self.name}/{request.model}")
        reading = request.expected_prompt_tokens / speed.prompt
        reply = ReplyReader(request.model, raw=request.raw, continues=request.continues)
        with self._memory.doubting(load):
            path, body = await self._asked(request)
            asked_at = self._clock()
            in_memory = await self._in_memory(load)
            if in_memory is False:
                yield Loading(speed.load_seconds)
                await self.load(*load)
            reading_at = self._clock()
            yield Reading(seconds_left=reading * self._unread(request, prompt, in_memory) if reading else None)
            first_at: float | None = None
            # Seconds that the prompt should take, and the model too, perhaps.
            first_limit = self._timeout + _READING_PATIENCE * reading
            first_limit += self._load_timeout if in_memory is None else 0
            lines = self._http.lines(path, body, model=request.model, first_limit=first_limit, limit=self._timeout)
            async with aclosing(lines) as batches:
                async for batch in batches:
                    if first_at is None:
                        first_at = self._clock()
                        self._memory.answered(load, prompt)
                    for line in batch:
                        for event in reply.feed(line):
                            yield event
                    if reply.ended:
                        break
            if first_at is None:
                raise EngineFailed(engine=self.label, detail="its answer was empty")
            for delta in reply.held_back():
                yield delta
            done = reply.done(
                loading=reading_at - asked_at if in_memory is False else 0.0,
                reading=first_at - reading_at,
                writing=self._clock() - first_at,
            )
            self._memory.answered(load, prompt)
        yield done

    def _unread(self, request: CompletionRequest, prompt: Sequence[Part], in_memory: bool | None) -> float:
        """Share of a prompt that has to be read. What is in the slot is known to the letter; of what the prompt cache
        has beside it, only whoever asks knows."""
        unread = self._memory.unread((request.model, request.context_length), prompt)
        if in_memory is False:
            return unread
        return min(unread, 1.0 - request.held_tokens / request.expected_prompt_tokens)

    async def takes(self, model: str, context_length: int) -> int | None:
        """Bytes that the model's process takes, by its file and its own numbers; None: it is not there.

        Raises:
            EngineError: Ollama cannot be asked.
        """
        known = await self._info(model)
        if known is None or not known.size:
            return None
        kv = kv_bytes((await self._show(model)).model_info)
        return model_bytes(known.size, kv, context_length, self.slots)

    async def _check_fit(self, model: str, context_length: int) -> None:
        if not self._memory_limit:
            return
        known = await self._info(model)
        if known is None or not known.size:  # it is not there; the request itself will say so
            return
        check_fit(
            model,
            size=known.size,
            info=(await self._show(model)).model_info,
            context=context_length,
            slots=self.slots,
            available=self._memory_limit,
        )

    async def pull(self, model: str) -> AsyncGenerator[Progress, None]:
        """Let Ollama fetch a model; yield how far it is, all its layers together.

        Raises:
            EngineFailed: it could not, in Ollama's words.
            EngineError: as in `OllamaHttp.lines`.
        """
        reader = PullReader()
        # While it checks a large layer it is silent, for minutes on a slow disk.
        limit = self._load_timeout
        lines = self._http.lines("/api/pull", {"model": model}, model=model, first_limit=limit, limit=limit)
        async with aclosing(lines) as batches:
            async for batch in batches:
                for line in batch:
                    if progress := reader.feed(line):
                        yield progress
                if reader.succeeded:
                    return
        raise StreamCut(engine=self.label)

    async def close(self) -> None:
        """Give back the connections."""
        await self._http.close()

    def _body(self, load: Load, sampling: Body | None = None) -> Body:
        """What every request carries; the same num_ctx, num_batch and num_thread always, or the model reloads."""
        model, context_length = load
        return {
            "model": model,
            "keep_alive": self._keep_alive,
            "truncate": False,
            "shift": False,
            "options": {"num_ctx": context_length, **self._options, **(sampling or {})},
        }

    async def _asked(self, request: CompletionRequest) -> tuple[str, Body]:
        """Where a completion is asked for, and the request's body."""
        known = await self._info(request.model)
        if request.uses_tools and (request.raw or (known is not None and known.can_use_tools is False)):
            raise Unsupported(parameter="tools", model=request.model, engine=self.label)
        stop = request.options.stop
        # They take the place of the model's own, without which it might go on into the visitor's next message.
        stop = tuple(dict.fromkeys(stop + await self._stops(request.model))) if stop else ()
        body = self._body((request.model, request.context_length), sampling_of(request.options, stop))
        body |= asked_of(request)
        if request.raw:
            return "/api/generate", body
        # Models that cannot think refuse `think: true`; those that can do so by default, so `false` is said as well.
        if known is not None and known.can_think:
            body["think"] = request.options.think
        return "/api/chat", body

    async def _info(self, model: str) -> ModelInfo | None:
        """What Ollama's list said of a model; None: it is not there."""
        if full_name(model) not in self._known:
            await self.models()
        return self._known.get(full_name(model))

    async def _stops(self, model: str) -> tuple[str, ...]:
        if model not in self._own_stops:
            self._own_stops[model] = (await self._show(model)).stops()
        return self._own_stops[model]

    async def _show(self, model: str) -> Show:
        body = {"model": model}
        show = answer(
            Show, await self._http.ask("POST", "/api/show", limit=self._models_timeout, model=model, body=body)
        )
        self._kv_bytes[model] = kv_bytes(show.model_info)
        return show

    async def _in_memory(self, load: Load) -> bool | None:
        """Whether a chat can begin at once; None: not known, so it may have to load first."""
        if not self._keeps:
            return None
        if self._memory.must_load(load):
            return False
        if self._memory.trusts(load):
            return True
        running = await self._running()
        if running is None:
            return None
        model, context_length = load
        there = full_name(model) in running and running[full_name(model)] in (None, context_length)
        if not there:
            self._memory.gone(load)
        return there

    async def _running(self) -> dict[str, int | None] | None:
        """The models in memory with their context lengths; None where Ollama does not say so quickly."""
        limit = min(_ASIDE_SECONDS, self._models_timeout)
        try:
            return answer(Running, await self._http.ask("GET", "/api/ps", limit=limit)).contexts()
        except EngineError:
            return None

    async def _get(self, path: str) -> bytes:
        try:
            return await self._http.ask("GET", path, limit=self._models_timeout)
        except EngineSilent:
            raise EngineUnreachable(engine=self.label, url=self._http.url) from None
