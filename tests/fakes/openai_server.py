"""A server with OpenAI's API that behaves as llama.cpp and `transformers serve` were seen to, and as vLLM's, LM
Studio's and Ollama's answers are on record. It says what it is told to, and fails as it is told to.

    async with FakeOpenAI("vllm") as server:
        server.script(Answer("Hello", then="cut"))
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.fakes.listener import Listener

Flavour = Literal["vllm", "llama.cpp", "lm-studio", "ollama", "transformers"]

_OWNERS: Final[dict[Flavour, str]] = {
    "vllm": "vllm",
    "llama.cpp": "llamacpp",
    "lm-studio": "organization_owner",
    "ollama": "library",
    "transformers": "Qwen",
}
# What `transformers serve` takes: OpenAI's fields, some of them without effect, and its own; anything else is a 422.
_TRANSFORMERS_FIELDS: Final = {
    "model", "messages", "prompt", "stream", "stream_options", "temperature", "top_p", "max_tokens", "stop", "seed",
    "presence_penalty", "frequency_penalty", "response_format", "tools", "tool_choice", "chat_template_kwargs",
}  # fmt: skip
_PIECE: Final = 4  # characters of a reply in one chunk


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says next.

    Attributes:
        text, reasoning: of the reply, sent some characters at a time.
        calls: functions that it asks for after the text, by name and arguments; these are sent in pieces, too.
        finish: its finish_reason; None: the stream just ends.
        then: how the stream goes on after the text: to its end, with an `error`, with a `cut` connection, never.
        error: the data of an event in mid-stream.
        status, body: what comes in place of a reply; text is a page, anything else JSON.
        hangs: no answer, not even headers.
        counted: whether it tells usage.
    """

    text: str = "Hello there."
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    finish: str | None = "stop"
    then: Literal["end", "error", "cut", "freeze"] = "end"
    error: str = '{"error": {"message": "something inside failed", "code": 500}}'
    status: int = 200
    body: object = None
    hangs: bool = False
    counted: bool = True


class FakeOpenAI:
    """The server.

    Args:
        flavour: which program it plays.
        models: their names.
        key: that it wants; empty: none.
        context: its context length, in tokens.
        template: its chat template (llama.cpp tells it).
        uses_tools: whether that knows functions (so does it tell this; without, they are dropped).
        embeds: how many texts it embeds at once; 0: it embeds none.
        loading: how many requests find it loading (llama.cpp answers 503 to all).
    """

    def __init__(
        self,
        flavour: Flavour,
        *models: str,
        key: str = "",
        context: int = 4096,
        template: str = "",
        uses_tools: bool = False,
        embeds: int = 0,
        loading: int = 0,
    ) -> None:
        self.flavour = flavour
        self.models = models or ("gemma2-2b",)
        self.context = context
        self.template = template
        self.uses_tools = uses_tools
        self.embeds = embeds
        self.loading = loading
        self.key = key
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.counted: list[dict[str, Any]] = []
        self.cancelled = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._answers: list[Answer] = []
        self._app = Starlette(
            routes=[
                Route("/props", self._props),
                Route("/slots", self._slots),
                Route("/v1/models", self._models),
                Route("/tokenize", self._tokenize, methods=["POST"]),
                Route("/v1/chat/completions", _Raw(self), methods=["POST"]),
                Route("/v1/completions", _Raw(self), methods=["POST"]),
                Route("/v1/embeddings", self._embeddings, methods=["POST"]),
                Route("/openapi.json", self._openapi),
            ],
            exception_handlers={404: _no_such_path},
        )
        self._listener = Listener(self)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.port}"

    def script(self, *answers: Answer) -> None:
        """What it says next, one each; after that what an Answer says by itself."""
        self._answers += answers

    async def __aenter__(self) -> Self:
        await self._listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listener.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = dict(scope["headers"]).get(b"authorization", b"").decode()
        app: Any = self._app
        if self.loading > 0:
            self.loading -= 1
            app = _refusal(503, "Loading model", "unavailable_error")
        elif self.key and sent != f"Bearer {self.key}":
            app = _refusal(401, f"Incorrect API key provided: {sent.removeprefix('Bearer ')}", "authentication_error")
        await app(scope, receive, send)

    async def _slots(self, _: Request) -> Response:
        """llama.cpp's; nobody else's requests are ever worked on."""
        if self.flavour != "llama.cpp":
            return await _no_such_path(None, None)
        return JSONResponse([{"id": number, "n_ctx": self.context, "is_processing": False} for number in range(2)])

    async def _props(self, _: Request) -> Response:
        if self.flavour != "llama.cpp":
            return await _no_such_path(None, None)
        settings = {"params": {}, "n_ctx": self.context}
        return JSONResponse(
            {
                "default_generation_settings": settings,
                "total_slots": 2,
                "chat_template": self.template,
                "chat_template_caps": {"supports_tools": self.uses_tools},
            }
        )

    async def _openapi(self, _: Request) -> Response:
        if self.flavour not in ("transformers", "vllm"):
            return await _no_such_path(None, None)
        own = ("/load_model", "/reset") if self.flavour == "transformers" else ("/tokenize",)
        return JSONResponse({"paths": {path: {} for path in ("/v1/chat/completions", *own)}})

    async def _embeddings(self, request: Request) -> Response:
        """What llama.cpp answered, and what is on record of vLLM's refusal. Vectors come in any order."""
        body = await request.json()
        self.requests.append(body)
        self.paths.append(request.url.path)
        if self.flavour == "transformers":
            return await _no_such_path(None, None)
        if not self.embeds:
            if self.flavour == "vllm":
                return _refusal(400, "The model does not support Embeddings API", "BadRequestError")
            words = "This server does not support embeddings. Start it with `--embeddings`"
            return _refusal(501, words, "not_supported_error")
        size = max(len(text.split()) for text in body["input"])
        if size > self.context:
            words = f"input ({size} tokens) is too large to process. increase the physical batch size"
            return _refusal(500, f"{words} (current batch size: {self.context})", "server_error")
        data = [{"index": n, "embedding": [float(n), float(len(text))]} for n, text in enumerate(body["input"])]
        tokens = sum(len(text.split()) for text in body["input"])
        return JSONResponse({"data": data[::-1][: self.embeds], "usage": {"prompt_tokens": tokens}})

    async def _models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._entry(name) for name in self.models]})

    def _entry(self, name: str) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": name, "object": "model", "owned_by": _OWNERS[self.flavour]}
        if self.flavour == "vllm":
            entry["max_model_len"] = self.context
        if self.flavour == "llama.cpp":
            entry["meta"] = {"n_ctx": self.context, "size": 10_250_496, "ftype": "F16"}
        return entry

    async def _tokenize(self, request: Request) -> Response:
        body = await request.json()
        self.counted.append(body)
        if self.flavour == "llama.cpp":
            return JSONResponse({"tokens": list(range(len(body["content"].split())))})
        if self.flavour == "vllm":
            count = sum(len(message["content"].split()) for message in body["messages"])
            return JSONResponse({"count": count, "max_model_len": self.context, "tokens": list(range(count))})
        return await _no_such_path(None, None)

    def next_answer(self) -> Answer:
        return self._answers.pop(0) if self._answers else Answer()

    def refusal_of(self, body: dict[str, Any]) -> Response | None:
        """What it finds wrong with a request by itself."""
        if self.flavour == "transformers" and (unknown := body.keys() - _TRANSFORMERS_FIELDS):
            return JSONResponse({"detail": f"Unexpected fields in the request: {unknown}"}, 422)
        if body["model"] in self.models or self.flavour == "llama.cpp":  # which has one, whatever it is called
            return None
        if self.flavour == "transformers":
            words = f"Server is pinned to '{self.models[0]}'; requested '{body['model']}'."
            return JSONResponse({"detail": words}, 400)
        return _refusal(404, f"The model `{body['model']}` does not exist.", "NotFoundError")

    def chunks_of(self, answer: Answer) -> list[str]:
        """The events of a reply, up to the point where something may go wrong."""
        reasoning_field = "reasoning" if self.flavour == "vllm" else "reasoning_content"
        chunks = [self._chunk({"role": "assistant", "content": None if self.flavour == "llama.cpp" else ""})]
        if self.flavour == "llama.cpp":
            for processed in (0, 8, 12):
                progress = {"total": 12, "cache": 4, "processed": processed, "time_ms": 2 * max(processed - 4, 0)}
                chunks.append(self._chunk({}, prompt_progress=progress))
        chunks += [self._chunk({reasoning_field: piece}) for piece in _pieces(answer.reasoning)]
        chunks += [self._chunk({"content": piece}) for piece in _pieces(answer.text)]
        return chunks + self._calls(answer)

    def _calls(self, answer: Answer) -> list[str]:
        """The calls, each begun with its id and name; then their arguments, a piece of each in turn."""
        parts = [
            {"index": n, "id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": ""}}
            for n, (name, _) in enumerate(answer.calls)
        ]
        pieces = [_pieces(arguments) for _, arguments in answer.calls]
        for at in range(max(map(len, pieces), default=0)):
            parts += [
                {"index": n, "function": {"arguments": some[at]}} for n, some in enumerate(pieces) if at < len(some)
            ]
        return [self._chunk({"tool_calls": [part]}) for part in parts]

    @staticmethod
    def raw_of(chunk: str) -> str:
        """A chunk as /v1/completions writes it; one without a choice stays as it is."""
        if chunk == "[DONE]" or not (found := json.loads(chunk)).get("choices"):
            return chunk
        delta = found["choices"][0].pop("delta")
        found["choices"][0]["text"] = delta.get("content") or ""
        return json.dumps(found | {"object": "text_completion"}, ensure_ascii=False)

    def last_chunks_of(self, answer: Answer) -> list[str]:
        if answer.finish is None:
            return []
        usage: dict[str, Any] = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
        told = {"usage": usage} if answer.counted else {}
        if self.flavour == "transformers":  # the usage with the finish_reason, and no [DONE]
            return [self._chunk({}, finish=answer.finish, **told)]
        chunks = [self._chunk({}, finish=answer.finish)]
        if self.flavour == "llama.cpp":
            usage["prompt_tokens_details"] = {"cached_tokens": 4}
            timings = {"cache_n": 4, "prompt_n": 8, "prompt_ms": 16.0, "predicted_n": 3, "predicted_ms": 60.0}
            chunks.append(json.dumps({"choices": [], "timings": timings} | told))
        elif answer.counted:
            chunks.append(json.dumps({"choices": []} | told))
        return [*chunks, "[DONE]"]

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return json.dumps({"object": "chat.completion.chunk", "choices": [choice]} | more, ensure_ascii=False)


class _Raw:
    """Chat completions on the connection itself: breaks off, hangs, and notices a client that leaves."""

    def __init__(self, fake: FakeOpenAI) -> None:
        self._fake = fake

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).json()
        self._fake.requests.append(body)
        self._fake.paths.append(scope["path"])
        answer = self._fake.next_answer()
        refusal = self._fake.refusal_of(body)
        if isinstance(answer.body, str):
            refusal = HTMLResponse(answer.body, answer.status)
        elif answer.body is not None:
            refusal = JSONResponse(answer.body, answer.status)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        self._fake.idle.clear()
        work = asyncio.ensure_future(self._stream(answer, send, raw="prompt" in body))
        gone = asyncio.ensure_future(receive())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            self._fake.cancelled += not work.done()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.wait({work, gone})
            self._fake.idle.set()

    async def _stream(self, answer: Answer, send: Send, *, raw: bool) -> None:
        if answer.hangs:
            await asyncio.Event().wait()
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for data in self._events(answer):
            data = self._fake.raw_of(data) if raw else data
            await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})
        if answer.then == "cut":
            return  # the server closes a connection whose answer has no end
        await send({"type": "http.response.body", "body": b""})

    async def _events(self, answer: Answer) -> AsyncIterator[str]:
        for chunk in self._fake.chunks_of(answer):
            yield chunk
        if answer.then == "freeze":
            await asyncio.Event().wait()
        if answer.then == "error":
            yield answer.error
        if answer.then == "end":
            for chunk in self._fake.last_chunks_of(answer):
                yield chunk


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _refusal(status: int, words: str, kind: str) -> Response:
    return JSONResponse({"error": {"message": words, "type": kind, "code": status}}, status)


async def _no_such_path(_: Request | None, __: Exception | None) -> Response:
    return JSONResponse({"detail": "Not Found"}, 404)
