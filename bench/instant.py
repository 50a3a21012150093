"""An Ollama that has every token ready: what a relay adds is all that remains to be measured.

It writes what Ollama writes, each token a line and a chunk of HTTP of its own; the lines of a reply are made once and
go out as fast as the reader takes them, so that it takes next to nothing of the machine.

    python -m bench.instant --port 11434
    POST /_hold {"hold": true|false}     from now on replies begin and then say nothing more
    GET  /_state                         {"open": replies being written or held, "left": seconds since the last end}
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from contextlib import suppress
from functools import cache
from typing import Any, Final, cast

MODEL: Final = "gemma2:2b"
_CONTEXT: Final = 8192
_AT: Final = "2026-11-21T03:27:00.205854187Z"
_WORDS: Final = tuple("the quick brown fox jumps over a lazy dog and then it rests by the river".split())  # noqa: SIM905
_CHUNKED: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"


def _line(content: str, **more: Any) -> bytes:
    line = {"model": MODEL, "created_at": _AT, "message": {"role": "assistant", "content": content}, "done": False}
    data = json.dumps(line | more, separators=(",", ":")).encode() + b"\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


@cache
def _reply(tokens: int) -> bytes:
    """All the lines of a reply."""
    text = [_line(f" {_WORDS[n % len(_WORDS)]}") for n in range(tokens)]
    counts = {"prompt_eval_count": 20, "prompt_eval_duration": 1_000_000, "eval_count": tokens, "eval_duration": 1000}
    return b"".join(text) + _line("", done=True, done_reason="stop", **counts) + b"0\r\n\r\n"


class _State:
    """Of the whole server: replies that are open, when the last one ended, whether they are held."""

    def __init__(self) -> None:
        self.open = 0
        self.left_at = 0.0
        self.hold = False


class _Connection(asyncio.Protocol):
    """One connection, kept open between requests."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._transport: asyncio.Transport
        self._rest = b""
        self._held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._held:
            self._state.open -= 1
            self._state.left_at = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, body = self._rest.partition(b"\r\n\r\n")
        if not found:
            return
        lengths = [line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        if len(body) < (length := int(lengths[0]) if lengths else 0):
            return
        self._rest = body[length:]
        self._serve(head.split(b" ")[1].decode(), body[:length])

    def _serve(self, path: str, body: bytes) -> None:
        match path:
            case "/api/chat":
                self._chat(json.loads(body))
            case "/api/tags":
                details = {"family": "gemma2", "parameter_size": "2.6B", "context_length": _CONTEXT}
                self._answer({"models": [{"name": MODEL, "size": 1, "details": details}]})
            case "/api/ps":
                self._answer({"models": [{"name": MODEL, "context_length": _CONTEXT}]})
            case "/api/show":
                self._answer({"model_info": {}, "capabilities": ["completion"]})
            case "/_hold":
                self._state.hold = json.loads(body)["hold"]
                self._answer({})
            case "/_state":
                self._answer({"open": self._state.open, "left": time.monotonic() - self._state.left_at})
            case _:
                self._answer({"version": "0.33.0"})

    def _chat(self, body: dict[str, Any]) -> None:
        """As many tokens as the last message says, after an optional word."""
        messages = body.get("messages")
        if not messages:
            self._answer({"model": MODEL, "done": True, "done_reason": "load"})
            return
        if self._state.hold:
            self._held = True
            self._state.open += 1
            if messages[-1]["content"].startswith("begin"):
                self._transport.write(_CHUNKED + _line(" the"))
            return
        self._transport.write(_CHUNKED + _reply(int(messages[-1]["content"].split()[-1])))

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % len(body) + body)


async def _main(port: int) -> None:
    state = _State()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(state), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="An Ollama that has every token ready.")
    parser.add_argument("--port", type=int, default=11434)
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args().port))
