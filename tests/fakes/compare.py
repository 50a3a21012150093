"""Sends recorded requests to a fake and compares what comes back with what came then."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import httpx

from tests.replay import body_of, recording

# The headers that say what an answer is and how it is framed. A length depends on what the model says.
_TELLING: Final = ("content-type", "transfer-encoding", "allow")


@dataclass(frozen=True)
class Answer:
    """What came back: the status, telling headers, and the lines of the body."""

    status: int
    headers: dict[str, str]
    lines: list[str]

    def last(self) -> dict[str, Any]:
        """The last line, or the whole body."""
        return dict(json.loads(self.lines[-1]))

    def shapes(self) -> list[Any]:
        """The shapes of the lines in their order; of equal ones in a row, one."""
        return [key for key, _ in groupby(shape(json.loads(line)) for line in self.lines)]


def recorded_answer(name: str) -> Answer:
    """The answer of a recording."""
    recorded = recording(name)
    return Answer(
        recorded["response"]["status"],
        _telling(recorded["response"]["headers"]),
        body_of(recorded).decode().splitlines(),
    )


async def ask(client: httpx.AsyncClient, request: Mapping[str, Any], *, lines: int | None = None) -> Answer:
    """Send a request as recordings have it.

    Args:
        client: with the server's address as its base.
        request: method, path, and `json` or `raw`.
        lines: leave after so many; None: read all.

    Raises:
        httpx.TransportError: the connection broke.
    """
    content = request["raw"].encode() if "raw" in request else None
    got: list[str] = []
    async with client.stream(request["method"], request["path"], content=content, json=request.get("json")) as response:
        async for line in response.aiter_lines():
            got.append(line)
            if len(got) == lines:
                break
    return Answer(response.status_code, _telling(response.headers), got)


def shape(value: object) -> Any:
    """JSON without its values: keys in their order, types, and of a list its first entry."""
    if isinstance(value, dict):
        return [(key, shape(entry)) for key, entry in value.items()]
    if isinstance(value, list):
        return ["list", *map(shape, value[:1])]
    return type(value).__name__


def _telling(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: headers[key] for key in _TELLING if key in headers}
