"""Answers a request with a recorded one, byte by byte: status, headers, body, and the way it ended."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

RECORDINGS: Final = Path(__file__).parent / "data" / "ollama"


@dataclass(slots=True)
class Replay:
    """A server that plays a recording to whoever asks its path, and lists what /api/ps should say.

    Attributes:
        url: where it is.
        bodies: what was sent to the recorded path, without empty ones.
        left: set when a client has closed its connection.
    """

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def requests(self) -> list[dict[str, Any]]:
        """The bodies as JSON."""
        return [json.loads(body) for body in self.bodies]


def recording(name: str) -> dict[str, Any]:
    """The recording of a scenario."""
    return dict(json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8")))


def pieces_of(recorded: dict[str, Any]) -> Iterator[tuple[float, bytes]]:
    """The recorded pieces of the body, each with its milliseconds since the request was sent.

    Of a long stream the middle is missing in the recording itself.
    """
    for event in recorded["response"]["events"]:
        if "line" in event:
            yield event["ms"], event["line"].encode() + b"\n"
        elif "body" in event:
            yield event["ms"], event["body"].encode()


def body_of(recorded: dict[str, Any]) -> bytes:
    """The recorded body."""
    return b"".join(piece for _, piece in pieces_of(recorded))


@asynccontextmanager
async def replay(
    name: str, *, loaded: bool = True, cut: bool = False, speedup: float = math.inf
) -> AsyncIterator[Replay]:
    """Serve the recording `name` on a free port of 127.0.0.1.

    A recording that ended because its client left is held open at its end until this client leaves, too.

    Args:
        name: of the scenario.
        loaded: whether /api/ps lists the model at num_ctx 4096, so that no load comes before.
        cut: break the connection before the body's last byte instead of ending as recorded.
        speedup: how much faster than recorded the pieces come; infinite: no waiting.
    """
    recorded = recording(name)
    path = recorded["request"]["path"]
    listed = recording("ps_loaded_forever" if loaded else "ps_nothing_loaded")
    state = Replay()
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            # The client leaves, or the replay ends.
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while True:
                    asked, sent = await _request(reader)
                    if asked == path and sent:
                        state.bodies.append(sent)
                    if asked != path:
                        await _play(writer, listed, False, math.inf)
                        continue
                    await _play(writer, recorded, cut, speedup)
                    if cut:
                        return
        finally:
            talks.discard(task)
            state.left.set()
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()
        for task in talks:
            task.cancel()
        if talks:
            await asyncio.wait(talks)


async def _request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """The path and the body of the next request."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    fields = {key.lower(): value for key, _, value in (line.partition(": ") for line in head.split("\r\n")[1:])}
    return head.split(" ", 2)[1], await reader.readexactly(int(fields.get("content-length", 0)))


async def _play(writer: asyncio.StreamWriter, recorded: dict[str, Any], cut: bool, speedup: float) -> None:
    """Write the answer; a line of a stream is a chunk of its own, as Ollama sends it."""
    response = recorded["response"]
    clock = asyncio.get_running_loop().time
    began = clock()

    async def until(milliseconds: float) -> None:
        await asyncio.sleep(max(0.0, began + milliseconds / 1000 / speedup - clock()))

    await until(response["headers_ms"])
    head = [f"{response['http_version']} {response['status']} {HTTPStatus(response['status']).phrase}"]
    # The recorded body of pull_no_network_json is shorter than its recorded length: the length is that of what is sent.
    own = {"content-length": str(len(body_of(recorded)))} if "content-length" in response["headers"] else {}
    head += [f"{key}: {value}" for key, value in {**response["headers"], **own}.items()]
    writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
    chunked = response["headers"].get("transfer-encoding") == "chunked"
    pieces = list(pieces_of(recorded))
    for n, (milliseconds, piece) in enumerate(pieces):
        await until(milliseconds)
        last = cut and n == len(pieces) - 1
        frame = f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if chunked else piece
        writer.write(frame[:-1] if last else frame)
        await writer.drain()
    if chunked and not cut and response["end"] == "complete":
        writer.write(b"0\r\n\r\n")
        await writer.drain()
