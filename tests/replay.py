"""Answers one request with a recorded one, byte by byte: status, headers, body, and the way it ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

RECORDINGS: Final = Path(__file__).parent / "data" / "ollama"


@dataclass(slots=True)
class Replay:
    """A server that plays a recording to whoever asks its path, and lists what /api/ps and /api/tags should say.

    Attributes:
        url: where it is.
        requests: the JSON bodies that were sent to the recorded path.
    """

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)


def recording(name: str) -> dict[str, Any]:
    """The recording of a scenario."""
    return dict(json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8")))


def body_of(recorded: dict[str, Any]) -> bytes:
    """The recorded body; of a long stream the middle is missing in the recording itself."""
    body = b""
    for event in recorded["response"]["events"]:
        if "line" in event:
            body += event["line"].encode() + b"\n"
        elif "body" in event:
            body += event["body"].encode()
    return body


@asynccontextmanager
async def replay(name: str, *, loaded: bool = True) -> AsyncIterator[Replay]:
    """Serve the recording `name` on a free port.

    Args:
        name: of the scenario.
        loaded: whether /api/ps lists the model at num_ctx 4096, so that no load comes before.
    """
    recorded = recording(name)
    path = recorded["request"]["path"]
    state = Replay()
    listed = recording("ps_loaded_forever" if loaded else "ps_nothing_loaded")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        asked = head.split(" ", 2)[1]
        fields = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n")[1:])}
        sent = await reader.readexactly(int(fields.get("content-length", 0)))
        answer = recorded if asked == path else listed
        if asked == path and sent:
            state.requests.append(json.loads(sent))
        response, body = answer["response"], body_of(answer)
        lines = [f"HTTP/1.1 {response['status']} X"]
        chunked = response["headers"].get("transfer-encoding") == "chunked"
        for key, value in response["headers"].items():
            lines.append(f"{key}: {len(body) if key == 'content-length' else value}")
        writer.write(("\r\n".join([*lines, "connection: close"]) + "\r\n\r\n").encode())
        if chunked:
            for line in body.splitlines(keepends=True):
                writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            writer.write(b"0\r\n\r\n")
        else:
            writer.write(body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()
