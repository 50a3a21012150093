"""The chunks of a streamed chat completion, made events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.engines.base import Delta, Done, FinishReason, Reading, Usage
from app.engines.openai_server import ServerKind
from app.engines.reasoning import ThinkSplitter
from app.errors import StreamCut

Chunk = Mapping[str, Any]

_MILLI: Final = 1e-3


def texts_of(chunk: Chunk) -> tuple[str, str]:
    """The reasoning (`reasoning_content`; in newer vLLM `reasoning`) and the answer's text in a chunk."""
    choices = chunk.get("choices") or [{}]
    delta = choices[0].get("delta") or {}
    return delta.get("reasoning_content") or delta.get("reasoning") or "", delta.get("content") or ""


@dataclass(slots=True)
class _Ending:
    """What the last chunks tell."""

    reason: str | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    timings: Mapping[str, Any] = field(default_factory=dict)

    def take(self, chunk: Chunk) -> None:
        for choice in chunk.get("choices") or ():
            self.reason = choice.get("finish_reason") or self.reason
        self.usage = chunk.get("usage") or self.usage
        self.timings = chunk.get("timings") or self.timings


async def events_of(
    chunks: AsyncIterable[Chunk],
    kind: ServerKind,
    *,
    inside: bool = False,
    load_seconds: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Reading | Delta | Done, None]:
    """The events of one reply.

    Args:
        chunks: until `[DONE]` or the end of the stream.
        kind: the server.
        inside: the text begins within a <think> block.
        load_seconds: spent before, for the usage.
        clock: seconds; times the phases where the server does not tell.

    Raises:
        StreamCut: the stream ended without a finish_reason. Ollama's does so after more than 30 equal tokens in a row
            (recorded): from an Ollama that is a reply that repeated itself.
    """
    splitter = ThinkSplitter(inside=inside)
    ending = _Ending()
    began = clock()
    first: float | None = None
    async for chunk in chunks:
        ending.take(chunk)
        if progress := chunk.get("prompt_progress"):
            yield _reading(progress)
        reasoning, text = texts_of(chunk)
        if first is None and (reasoning or text):
            first = clock()
        if reasoning:
            # The server tells reasoning apart by itself, so no block is open in the text.
            splitter, inside = (ThinkSplitter(), False) if inside else (splitter, False)
            yield Delta(reasoning, "reasoning")
        for delta in splitter.feed(text):
            yield delta
    for delta in splitter.flush():
        yield delta
    if ending.reason is None and not (kind.ends_repetition and first is not None):
        raise StreamCut(engine=kind.label)
    ended = clock()
    first = ended if first is None else first
    yield Done(_finish(ending.reason), _usage(ending, load_seconds, first - began, ended - first))


def _finish(reason: str | None) -> FinishReason:
    if reason is None:
        return "repetition"
    return "length" if reason == "length" else "stop"


def _reading(progress: Mapping[str, Any]) -> Reading:
    """llama.cpp's prompt_progress: of `total` tokens `processed`, `cache` of them without work, in `time_ms` so far."""
    processed, total = int(progress["processed"]), int(progress["total"])
    read, seconds = processed - int(progress.get("cache") or 0), float(progress.get("time_ms") or 0) * _MILLI
    left = seconds / read * (total - processed) if read > 0 and seconds > 0 else None
    return Reading(processed, total, left)


def _usage(ending: _Ending, load_seconds: float, prompt_seconds: float, generation_seconds: float) -> Usage:
    """The server's counts, None where it has none; its times (llama.cpp), else those of our clock."""
    usage, timings = ending.usage, ending.timings
    details = usage.get("prompt_tokens_details") or {}
    return Usage(
        prompt_tokens=usage.get("prompt_tokens"),
        reply_tokens=usage.get("completion_tokens"),
        load_seconds=load_seconds,
        prompt_seconds=timings["prompt_ms"] * _MILLI if "prompt_ms" in timings else prompt_seconds,
        generation_seconds=timings["predicted_ms"] * _MILLI if "predicted_ms" in timings else generation_seconds,
        cached_tokens=details.get("cached_tokens"),
    )
