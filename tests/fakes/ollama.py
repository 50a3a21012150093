"""An Ollama that behaves as the real one was recorded (tests/data/ollama): its protocol, its one slot a model, its
caches, its loading, its speed, its ways to fail. `words` says what it answers to which message.

Where it is not like the real one:
- its tokens are pieces of words, and the token that ends a reply is not counted (`eval_count` is the number of lines);
- the memory is not modelled: loading a model never unloads another;
- the guard against repetition strikes where a reply asks for it, so that filler text of a test can be echoed;
- no call of a function, no schema as `format`, and of /api/embed only a refusal were recorded: those are by
  https://docs.ollama.com/api; a `seed` changes nothing, for it says the same each time; /v1 is not there.

    async with FakeOllama(speedup=1000) as ollama:      # in a test, in its event loop
        ollama.url
    python -m tests.fakes.ollama --port 11434           # beside a server under test

A server of its own is looked into and changed over HTTP:
    GET  /_fake/state                                   counters, and the bodies of all requests to a model
    POST /_fake/models  {"models": [NAME, ...]}         which models there are from now on
    POST /_fake/script  {"replies": [MESSAGE, ...]}     the next requests are answered as if they were these messages
    POST /_fake/speedup {"speedup": N}                  how much faster the clock runs from now on
    POST /_fake/faults  {PATH: "500"|"hang"|"cut", ...} what goes wrong at which paths from now on
    POST /_fake/away    {"seconds": N}                  refuse connections for that long; then nothing is loaded
"""

from __future__ import annotations

import argparse
import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Literal, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.fakes.answers import Piece
from tests.fakes.caches import CACHE_TOKENS
from tests.fakes.completion import complete, line_of
from tests.fakes.constrained import json_reply
from tests.fakes.embedding import embed
from tests.fakes.exchange import JSON, Exchange, Refused, dump
from tests.fakes.inside import inside_routes
from tests.fakes.listener import Listener
from tests.fakes.machine import Machine
from tests.fakes.models import FakeModel, Library, full_name, model_named
from tests.fakes.pull import no_network, pull
from tests.fakes.requests import ChatRequest, Purpose, understand
from tests.fakes.words import Reply, count_tokens, plain, reply_to, rest_of, said

__all__ = ["FakeModel", "FakeOllama", "Reply", "count_tokens", "reply_to"]

PathFault = Literal["500", "hang", "cut"]
_Handler = Callable[[Exchange], Coroutine[Any, Any, None]]
_NAME: Final = re.compile(r"[\w.-]+(/[\w.-]+)*(:[\w.-]+)?")
_PLAIN: Final = {"content-type": "text/plain"}


class FakeOllama(Machine):
    """The server.

    Args:
        models: what it has; by default gemma2:2b.
        port: 0 for a free one.
        pull_fails: how many pulls fail before one works; a negative number: all.
        prompt_speed, speed, load_seconds, speedup, cache_tokens, cache_reuse: see Machine.

    Attributes:
        requests: the body of each request to /api/chat and /api/generate.
        embedded: the body of each request to /api/embed.
        faults: what goes wrong at which paths.
    """

    def __init__(
        self,
        *models: FakeModel,
        prompt_speed: float = 55,
        speed: float = 17.8,
        load_seconds: float = 3.3,
        speedup: float = 1,
        cache_tokens: int = CACHE_TOKENS,
        cache_reuse: int = 0,
        port: int = 0,
        pull_fails: int = 0,
    ) -> None:
        super().__init__(
            prompt_speed=prompt_speed,
            speed=speed,
            load_seconds=load_seconds,
            speedup=speedup,
            cache_tokens=cache_tokens,
            cache_reuse=cache_reuse,
        )
        self.models = Library({model.name: model for model in models or (FakeModel("gemma2:2b"),)})
        self.pull_fails = pull_fails
        self.requests: list[dict[str, Any]] = []
        self.embedded: list[dict[str, Any]] = []
        self.faults: dict[str, PathFault] = {}
        self._script: list[Reply] = []
        self._app = self._routes()
        self._listener = Listener(self, port)
        self._return: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.port}"

    async def __aenter__(self) -> Self:
        await self._listener.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._return is not None:
            self._return.cancel()
        await self._listener.stop()

    async def go_away(self) -> None:
        """End as a killed Ollama does: connections break, new ones are refused, models are unloaded."""
        await self._listener.stop()
        self.unload()

    async def come_back(self) -> None:
        """Listen again on the same port."""
        await self._listener.start()

    def script(self, *replies: Reply | str) -> None:
        """What the next requests with messages are answered, whatever they say; text: as if they were that message."""
        self._script += [reply_to(reply) if isinstance(reply, str) else reply for reply in replies]

    async def leave_for(self, seconds: float) -> None:
        """Go away, and come back by itself. Returns at once: leaving ends the request that asked for it."""
        self._return = asyncio.create_task(self._be_away(seconds))

    def set_models(self, names: Sequence[str]) -> None:
        """Have these models from now on; those that are not among them are unloaded."""
        for gone in set(self.models) - {full_name(name) for name in names}:
            self.unload(self.models[gone].name)
        self.models = Library({name: self.models.get(name) or model_named(name) for name in names})

    def pull_problem(self, name: str) -> str | None:
        """Why the pull that begins now is to fail, in Ollama's words; None: it works."""
        if self.pull_fails == 0:
            return None
        self.pull_fails -= self.pull_fails > 0
        return no_network(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self.faults.get(scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
            return
        exchange = Exchange(receive, send)
        if fault == "500":
            await exchange.refuse(Refused(500, "something inside failed"))
        elif fault == "cut":
            await exchange.break_off()
        else:
            await exchange.attend(_never())

    def _routes(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/", _root, methods=["GET", "HEAD"]),
                Route("/api/version", _version),
                Route("/api/tags", self._tags),
                Route("/api/ps", self._ps),
                Route("/api/show", _Endpoint(self._show), methods=["POST"]),
                Route("/api/delete", _Endpoint(self._delete), methods=["DELETE"]),
                Route("/api/embed", _Endpoint(self._embed), methods=["POST"]),
                Route("/api/chat", _Endpoint(self._chat), methods=["POST"]),
                Route("/api/generate", _Endpoint(self._generate), methods=["POST"]),
                Route("/api/pull", _Endpoint(self._pull), methods=["POST"]),
                *inside_routes(self),
            ],
            exception_handlers={404: _no_such_path, 405: _no_such_method},
        )

    # Ollama's own

    async def _tags(self, _: Request) -> Response:
        return _json({"models": [model.tag() for model in self.models.values()]})

    async def _ps(self, _: Request) -> Response:
        return _json({"models": [runner.listed() for runner in self.loaded()]})

    async def _show(self, exchange: Exchange) -> None:
        name = full_name((await exchange.json()).get("model") or "")
        if name not in self.models:
            raise Refused(404, f"model '{name}' not found")
        await exchange.answer(self.models[name].shown())

    async def _delete(self, exchange: Exchange) -> None:
        name = (await exchange.json()).get("model") or ""
        if name not in self.models:
            raise Refused(404, f"model '{name}' not found")
        self.unload(self.models.pop(name).name)
        await exchange.nothing()

    async def _embed(self, exchange: Exchange) -> None:
        body = await exchange.json()
        self.embedded.append(body)
        await exchange.attend(embed(self, understand(body, self.models, "embed"), body, exchange))

    async def _chat(self, exchange: Exchange) -> None:
        await self._complete(exchange, "chat")

    async def _generate(self, exchange: Exchange) -> None:
        await self._complete(exchange, "generate")

    async def _complete(self, exchange: Exchange, purpose: Purpose) -> None:
        body = await exchange.json()
        self.requests.append(body)
        asked = understand(body, self.models, purpose)
        if asked.unloads:
            self.unload(asked.model.name)
            await exchange.answer(line_of(asked, Piece(reason="unload")))
            return
        await exchange.attend(complete(self, asked, self._reply(asked), exchange))

    def _reply(self, asked: ChatRequest) -> Reply:
        last = str(asked.messages[-1].get("content") or "") if asked.messages else ""
        begun = ""
        if len(asked.messages) > 1 and asked.messages[-1].get("role") == "assistant":
            begun, last = last, str(asked.messages[-2].get("content") or "")
        reply = self._script.pop(0) if self._script and asked.messages else reply_to(last)
        if begun:
            reply = replace(reply, pieces=rest_of(reply.pieces, begun), thinking=())
        if reply.calls and not asked.tools:
            reply = plain(last)
        if asked.format is not None and reply.pieces and reply.fault is None:
            return replace(reply, pieces=said(json_reply("".join(reply.pieces), asked.format)))
        return reply

    async def _pull(self, exchange: Exchange) -> None:
        body = await exchange.json()
        name = body.get("model") or ""
        if not _NAME.fullmatch(name):
            raise Refused(400, "invalid model name")
        problem = self.pull_problem(name)
        streaming = body.get("stream", True) is not False
        await exchange.attend(pull(self, self.models, exchange, name, problem=problem, streaming=streaming))

    async def _be_away(self, seconds: float) -> None:
        await self.go_away()
        await asyncio.sleep(seconds)
        await self.come_back()


class _Endpoint:
    """A path whose handler works on the connection itself."""

    def __init__(self, handle: _Handler) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(receive, send)
        try:
            await self._handle(exchange)
        except Refused as refused:
            await exchange.refuse(refused)


async def _never() -> None:
    await asyncio.Event().wait()


def _json(content: dict[str, Any]) -> Response:
    return Response(dump(content), headers={"content-type": JSON})


async def _root(_: Request) -> Response:
    return Response("Ollama is running", headers={"content-type": "text/plain; charset=utf-8"})


async def _version(_: Request) -> Response:
    return _json({"version": "0.32.15"})


async def _no_such_path(_: Request, __: Exception) -> Response:
    return Response("404 page not found", 404, headers=_PLAIN)


async def _no_such_method(_: Request, problem: Exception) -> Response:
    allowed: Mapping[str, str] = getattr(problem, "headers", None) or {}
    return Response("405 method not allowed", 405, headers={**allowed, **_PLAIN})


async def _main(arguments: argparse.Namespace) -> None:
    models = [model_named(name) for name in arguments.models.split(",") if name]
    if arguments.thinker:
        models.append(FakeModel(arguments.thinker, family="qwen3", capabilities=("completion", "thinking")))
    fake = FakeOllama(
        *models,
        prompt_speed=arguments.prompt_speed,
        speed=arguments.speed,
        load_seconds=arguments.load_seconds,
        speedup=arguments.speedup,
        cache_tokens=arguments.cache_tokens,
        cache_reuse=arguments.cache_reuse,
        port=arguments.port,
        pull_fails=arguments.pull_fails,
    )
    if not models:
        fake.models.clear()
    async with fake:
        print(fake.url, flush=True)
        await _never()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A fake Ollama.")
    parser.add_argument("--port", type=int, default=11434)
    parser.add_argument("--models", default="gemma2:2b", help="names, joined by commas")
    parser.add_argument("--thinker", default="", help="name of one more model, that can think")
    parser.add_argument("--prompt-speed", type=float, default=55, help="tokens read per second")
    parser.add_argument("--speed", type=float, default=17.8, help="tokens written per second")
    parser.add_argument("--load-seconds", type=float, default=3.3)
    parser.add_argument("--speedup", type=float, default=1, help="how much faster the clock runs; inf: no waiting")
    parser.add_argument("--cache-tokens", type=int, default=CACHE_TOKENS, help="room of the prompt cache; 0: none")
    parser.add_argument("--cache-reuse", type=int, default=0, help="smallest piece that is moved, not read; 0: none is")
    parser.add_argument("--pull-fails", type=int, default=0, help="pulls that fail before one works; -1: all")
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))
