"""An Ollama that behaves as the real one was recorded (tests/data/ollama): its protocol, its one slot, its prefix
cache, its loading, its speed, its ways to fail. `words` says what it answers to which message.

Where it cannot be like the real one: its tokens are pieces of words, and its cache in RAM for other conversations is
not modelled (only the slot's).

    async with FakeOllama(speedup=1000) as ollama:      # in a test, in its event loop
        ollama.url
    python -m tests.fakes.ollama --port 11434           # beside a server under test; /_fake/... looks into it
"""

from __future__ import annotations

import argparse
import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.fakes.words import Reply, count_tokens, prompt_of, reply_to, tokens_of

__all__ = ["FakeModel", "FakeOllama", "count_tokens"]

_NANO: Final = 1_000_000_000
_FOR_EVER: Final = "2319-03-03T03:15:59.598823381Z"
_EOF: Final = "an error was encountered while running the model: unexpected EOF"
_RELOADING: Final = ("num_ctx", "num_batch", "num_thread")
_INTEGERS: Final = ("num_ctx", "num_batch", "num_thread", "num_predict", "seed", "top_k")


@dataclass(slots=True)
class FakeModel:
    """A model on disk. `maximum`: its own context length."""

    name: str
    size: int = 1_629_276_160
    family: str = "gemma2"
    parameters: str = "2.6B"
    quantization: str = "Q4_0"
    maximum: int = 8192
    capabilities: tuple[str, ...] = ("completion",)

    def tag(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": self.name,
            "modified_at": "2026-11-21T03:27:00.205854187Z",
            "size": self.size,
            "digest": "6189dd64263926c6345b0197fd132584d9f4d658f13ff6d5c13314398eb154a8",
            "details": {
                "parent_model": "",
                "format": "gguf",
                "family": self.family,
                "families": [self.family],
                "parameter_size": self.parameters,
                "quantization_level": self.quantization,
                "context_length": self.maximum,
                "embedding_length": 2304,
            },
            "capabilities": list(self.capabilities),
        }


@dataclass(slots=True)
class Runner:
    """A loaded model: its options and the tokens in its slot's cache. `alive`: whether its process runs."""

    options: dict[str, Any]
    context: int
    cache: list[str] = field(default_factory=list)
    alive: bool = True
    keep_alive: Any = None


class FakeOllama:
    """The server.

    Args:
        models: what it has.
        prompt_speed, speed: tokens read and generated per second.
        load_seconds: time to load a model.
        speedup: how much faster than that the clock runs; what it reports stays as at true speed.
        port: 0 for a free one.
        pull_fails: how many pulls fail before one works; a negative number: all.
    """

    def __init__(
        self,
        *models: FakeModel,
        prompt_speed: float = 55,
        speed: float = 17.8,
        load_seconds: float = 3.3,
        speedup: float = 1,
        port: int = 0,
        pull_fails: int = 0,
    ) -> None:
        self.models = {model.name: model for model in models or (FakeModel("gemma2:2b"),)}
        self.prompt_speed = prompt_speed
        self.speed = speed
        self.load_seconds = load_seconds
        self.speedup = speedup
        self.pull_fails = pull_fails
        self.port = port
        self.requests: list[dict[str, Any]] = []
        self.script: list[Reply] = []
        self.runners: dict[str, Runner] = {}
        self.busy = 0
        self.loads = 0
        self.cancelled = 0
        self.tokens_read = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._slot = asyncio.Lock()
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    # The server's life

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        config = uvicorn.Config(self.app(), host="127.0.0.1", port=self.port, log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.001)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        assert self._task is not None
        self._server.should_exit = self._server.force_exit = True
        await self._task

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", _root, methods=["GET", "HEAD"]),
                Route("/api/version", _version),
                Route("/api/tags", self._tags),
                Route("/api/ps", self._ps),
                Route("/api/show", self._show, methods=["POST"]),
                Route("/api/delete", self._delete, methods=["DELETE"]),
                Route("/api/chat", _Raw(self._chat), methods=["POST"]),
                Route("/api/pull", _Raw(self._pull), methods=["POST"]),
                Route("/_fake/state", self._state),
                Route("/_fake/models", self._set_models, methods=["POST"]),
            ]
        )

    # Lists

    async def _tags(self, _: Request) -> Response:
        return _json({"models": [model.tag() for model in self.models.values()]})

    async def _ps(self, _: Request) -> Response:
        loaded = []
        for name, runner in self.runners.items():
            tag = self.models[name].tag()
            details = {k: v for k, v in tag["details"].items() if k not in ("context_length", "embedding_length")}
            seconds = runner.keep_alive if isinstance(runner.keep_alive, int) else 300
            until = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat() if seconds >= 0 else _FOR_EVER
            loaded.append(
                {
                    "name": name,
                    "model": name,
                    "size": 1_925_982_452,
                    "digest": tag["digest"],
                    "details": details,
                    "expires_at": until,
                    "size_vram": 0,
                    "context_length": runner.context,
                }
            )
        return _json({"models": loaded})

    async def _show(self, request: Request) -> Response:
        name = (await request.json()).get("model", "")
        if name not in self.models:
            return _json({"error": f"model '{name}' not found"}, 404)
        model = self.models[name]
        info = {"general.architecture": model.family, f"{model.family}.context_length": model.maximum}
        details = {k: v for k, v in model.tag()["details"].items() if k != "context_length"}
        return _json({"details": details, "model_info": info, "capabilities": list(model.capabilities)})

    async def _delete(self, request: Request) -> Response:
        name = (await request.json()).get("model", "")
        if self.models.pop(name, None) is None:
            return _json({"error": f"model '{name}' not found"}, 404)
        self.runners.pop(name, None)
        return Response(status_code=200)

    async def _state(self, _: Request) -> Response:
        return _json(
            {
                "busy": self.busy,
                "cancelled": self.cancelled,
                "loads": self.loads,
                "tokens_read": self.tokens_read,
                "requests": self.requests,
            }
        )

    async def _set_models(self, request: Request) -> Response:
        names = (await request.json())["models"]
        self.models = {name: self.models.get(name) or FakeModel(name) for name in names}
        return _json({})

    # Completions

    async def _chat(self, exchange: Exchange) -> None:
        body = await exchange.json()
        if body is None:
            return
        self.requests.append(body)
        name, streaming = body.get("model") or "", body.get("stream", True)
        if not name:
            await exchange.refuse(400, "model is required")
            return
        if name not in self.models:
            await exchange.refuse(404, f"model '{name}' not found")
            return
        model, options = self.models[name], body.get("options") or {}
        for option in _INTEGERS:
            if option in options and (
                isinstance(options[option], bool) or not isinstance(options[option], int | float)
            ):
                await exchange.refuse(500, f'option "{option}" must be of type integer')
                return
        if body.get("think") and "thinking" not in model.capabilities:
            await exchange.refuse(400, f'"{name}" does not support thinking')
            return
        if body.get("tools"):
            await exchange.refuse(400, f"registry.ollama.ai/library/{name} does not support tools")
            return
        messages = body.get("messages") or []
        if not messages and body.get("keep_alive") == 0:
            self.runners.pop(name, None)
            await exchange.json_answer(_message(name, "", done=True, done_reason="unload"))
            return
        reply = self.script.pop(0) if self.script and messages else reply_to(_last(messages))
        work = asyncio.create_task(self._complete(exchange, model, body, messages, reply, streaming))
        gone = asyncio.create_task(exchange.gone())
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            self.cancelled += 1
            exchange.left = True
            work.cancel()
        gone.cancel()
        await asyncio.wait({work})
        if not work.cancelled() and (problem := work.exception()) is not None and not isinstance(problem, _Cut):
            raise problem

    async def _complete(
        self,
        exchange: Exchange,
        model: FakeModel,
        body: dict[str, Any],
        messages: list[dict[str, Any]],
        reply: Reply,
        streaming: bool,
    ) -> None:
        async with self._slot:
            self.busy += 1
            self.idle.clear()
            try:
                await self._serve(exchange, model, body, messages, reply, streaming)
            finally:
                self.busy -= 1
                if not self.busy:
                    self.idle.set()

    async def _serve(
        self,
        exchange: Exchange,
        model: FakeModel,
        body: dict[str, Any],
        messages: list[dict[str, Any]],
        reply: Reply,
        streaming: bool,
    ) -> None:
        options = body.get("options") or {}
        load_seconds = await self._load(exchange, model, body, reply)
        if load_seconds is None:
            return
        runner = self.runners[model.name]
        if not messages:
            await exchange.json_answer(_message(model.name, "", done=True, done_reason="load"))
            return
        prompt = prompt_of(messages)
        if len(prompt) > runner.context:
            if body.get("truncate", True) is False:
                await exchange.refuse(400, _too_long(len(prompt), runner.context))
                return
            while len(prompt) > runner.context and len(messages) > 1:
                messages = messages[1:]
                prompt = prompt_of(messages)
            prompt = prompt[-runner.context :]
        if reply.fault == "500":
            await exchange.refuse(500, "something inside failed")
            return
        read = await self._read(exchange, runner, prompt, reply)
        if reply.fault == "die-prefill":
            runner.alive = False
            await exchange.refuse(500, _EOF)
            return
        if reply.fault == "hang":
            await asyncio.Event().wait()
        bound = options.get("num_predict", -1)
        room = runner.context - len(prompt)
        lines = [("thinking", piece) for piece in reply.thinking] if body.get("think") else []
        lines += [("content", piece) for piece in reply.pieces]
        limit = min(bound if bound > 0 else 10 * runner.context, max(room, 1))
        written, lines = lines[:limit], lines[limit:]
        if not streaming:
            await self._whole(exchange, model.name, written, bool(lines), len(prompt), read, load_seconds, reply)
            return
        for n, (kind, piece) in enumerate(written):
            if reply.delay:
                await self._pass(1 / self.speed)
            if reply.fault in ("die", "cut", "freeze", "error") and n == len(written) - 1:
                await self._fail(exchange, runner, reply)
                return
            await exchange.line(_message(model.name, **{kind: piece}, done=False))
        runner.cache = prompt + tokens_of("".join(piece for _, piece in written))
        if reply.fault != "repeat":
            await exchange.line(
                _last_line(model.name, bool(lines), len(prompt), read, len(written), load_seconds, self)
            )
        await exchange.end()

    async def _whole(
        self,
        exchange: Exchange,
        name: str,
        written: list[tuple[str, str]],
        cut: bool,
        prompt: int,
        read: float,
        load_seconds: float,
        reply: Reply,
    ) -> None:
        await self._pass(len(written) / self.speed if reply.delay else 0)
        text = "".join(piece for kind, piece in written if kind == "content")
        answer = _message(name, text, done=False)
        if reply.fault != "repeat":
            answer = _last_line(name, cut, prompt, read, len(written), load_seconds, self)
            answer["message"]["content"] = text
        await exchange.json_answer(answer)

    async def _load(self, exchange: Exchange, model: FakeModel, body: dict[str, Any], reply: Reply) -> float | None:
        """Bring the model into memory if it is not there with these very options; the seconds that took."""
        options = {key: value for key, value in (body.get("options") or {}).items() if key in _RELOADING}
        runner = self.runners.get(model.name)
        # A request without messages and options (a bare load) takes the runner as it is.
        if runner is None or not runner.alive or runner.options != options:
            if reply.fault == "oom":
                await exchange.refuse(500, "model requires more system memory (9.1 GiB) than is available (2.0 GiB)")
                return None
            if reply.fault == "die-loading":
                await exchange.refuse(500, "llama-server process has terminated: signal: killed")
                return None
            await self._pass(self.load_seconds)
            self.loads += 1
            self.runners.clear()
            context = min(int(options.get("num_ctx", 4096)), model.maximum)
            runner = self.runners[model.name] = Runner(options, context)
            seconds = self.load_seconds
        else:
            seconds = 0.0015
        runner.keep_alive = body.get("keep_alive")
        return seconds

    async def _read(self, exchange: Exchange, runner: Runner, prompt: list[str], reply: Reply) -> float:
        """Read what the cache does not hold, batch by batch; who leaves is noticed at the end of a batch."""
        known = 0
        for a, b in zip(runner.cache, prompt, strict=False):
            if a != b:
                break
            known += 1
        new = max(len(prompt) - known, 1)
        batch = int(runner.options.get("num_batch", 512))
        runner.cache = []
        for begin in range(0, new, batch):
            size = min(batch, new - begin)
            await asyncio.shield(asyncio.ensure_future(self._pass(size / self.prompt_speed if reply.delay else 0)))
            self.tokens_read += size
        return new / self.prompt_speed

    async def _fail(self, exchange: Exchange, runner: Runner, reply: Reply) -> None:
        if reply.fault == "die":
            runner.alive = False
            await exchange.line({"error": _EOF})
            await exchange.end()
        elif reply.fault == "error":
            await exchange.line({"error": reply.words or "something went wrong"})
            await exchange.end()
        elif reply.fault == "cut":
            raise _Cut
        else:
            await asyncio.Event().wait()

    async def _pass(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speedup)

    # Pulling

    async def _pull(self, exchange: Exchange) -> None:
        body = await exchange.json()
        if body is None:
            return
        name, streaming = body.get("model") or "", body.get("stream", True)
        if not name.replace(":", "").replace(".", "").replace("-", "").replace("/", "").isalnum():
            await exchange.refuse(400, "invalid model name")
            return
        fails = self.pull_fails != 0
        self.pull_fails -= 1 if self.pull_fails > 0 else 0
        words = (
            'pull model manifest: Get "https://registry.ollama.ai/v2/library/x/manifests/y": dial tcp: '
            "lookup registry.ollama.ai: no such host"
        )
        if not streaming:
            await (exchange.refuse(500, words) if fails else exchange.json_answer({"status": "success"}))
            return
        await exchange.line({"status": "pulling manifest"})
        if fails:
            await exchange.line({"error": words})
            await exchange.end()
            return
        for layer, total in (("sha256:aaa", 1_600_000_000), ("sha256:bbb", 29_000_000)):
            for tenth in range(11):
                await self._pass(0.3)
                step = {"status": f"pulling {layer[7:]}", "digest": layer, "total": total}
                await exchange.line(step | ({"completed": total * tenth // 10} if tenth else {}))
        for status in ("verifying sha256 digest", "writing manifest"):
            await exchange.line({"status": status})
        self.models[name] = FakeModel(name)
        await exchange.line({"status": "success"})
        await exchange.end()


class _Cut(Exception):
    """Ends the connection in mid-stream."""


class _Raw:
    """An endpoint that works on the connection itself: headers when it wants, notice of a client that leaves."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(receive, send)
        await self._handle(exchange)
        if exchange.began and not exchange.ended and not exchange.left:
            # The server closes a connection whose answer was not ended.
            raise _Cut


class Exchange:
    """One request and its answer."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.began = False
        self.ended = False
        self.left = False

    async def json(self) -> dict[str, Any] | None:
        """The body; None after it was refused for not being JSON."""
        raw = b""
        while True:
            message = await self._receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        try:
            return dict(json.loads(raw))
        except ValueError:
            await self.refuse(400, "unexpected EOF" if raw else "missing request body")
            return None

    async def gone(self) -> None:
        """Returns when the client has left."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def refuse(self, status: int, words: str) -> None:
        await self.json_answer({"error": words}, status)

    async def json_answer(self, content: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(content, separators=(",", ":")).encode()
        headers = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
        ]
        self.began = self.ended = True
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    async def line(self, content: dict[str, Any]) -> None:
        """One line of the stream; the headers go out with the first."""
        if not self.began:
            self.began = True
            headers = [(b"content-type", b"application/x-ndjson")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self) -> None:
        self.ended = True
        await self._send({"type": "http.response.body", "body": b""})


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(content, status, media_type="application/json; charset=utf-8")


async def _root(_: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(_: Request) -> Response:
    return _json({"version": "0.32.15"})


def _last(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1].get("content") or "") if messages else ""


def _message(name: str, content: str = "", *, done: bool, thinking: str = "", done_reason: str = "") -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"
    line: dict[str, Any] = {"model": name, "created_at": at, "message": message, "done": done}
    return line | ({"done_reason": done_reason} if done_reason else {})


def _last_line(
    name: str, cut: bool, prompt: int, read: float, written: int, load_seconds: float, fake: FakeOllama
) -> dict[str, Any]:
    generation = written / fake.speed
    counts = {
        "total_duration": int((load_seconds + read + generation) * _NANO),
        "load_duration": int(load_seconds * _NANO),
        "prompt_eval_count": prompt,
        "prompt_eval_duration": int(read * _NANO),
        "eval_count": written,
        "eval_duration": int(generation * _NANO),
    }
    line = _message(name, "", done=True, done_reason="length" if cut else "stop")
    return line | {key: value for key, value in counts.items() if value}


def _too_long(tokens: int, context: int) -> str:
    words = f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
    refusal = {"code": 400, "message": words, "type": "exceed_context_size_error"}
    return json.dumps({"error": refusal | {"n_prompt_tokens": tokens, "n_ctx": context}}, separators=(",", ":"))


async def _main(arguments: argparse.Namespace) -> None:
    models = [FakeModel(name) for name in arguments.models.split(",") if name]
    if arguments.thinker:
        models.append(FakeModel(arguments.thinker, family="qwen3", capabilities=("completion", "thinking")))
    fake = FakeOllama(
        *models,
        prompt_speed=arguments.prompt_speed,
        speed=arguments.speed,
        load_seconds=arguments.load_seconds,
        speedup=arguments.speedup,
        port=arguments.port,
        pull_fails=arguments.pull_fails,
    )
    if not models:
        fake.models.clear()
    async with fake:
        print(fake.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A fake Ollama.")
    parser.add_argument("--port", type=int, default=11434)
    parser.add_argument("--models", default="gemma2:2b")
    parser.add_argument("--thinker", default="", help="name of one more model, that can think")
    parser.add_argument("--prompt-speed", type=float, default=55)
    parser.add_argument("--speed", type=float, default=17.8)
    parser.add_argument("--load-seconds", type=float, default=3.3)
    parser.add_argument("--speedup", type=float, default=1)
    parser.add_argument("--pull-fails", type=int, default=0)
    asyncio.run(_main(parser.parse_args()))
