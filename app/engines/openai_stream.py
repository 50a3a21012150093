"""The chunks of a streamed completion, made events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.engines.base import Delta, Done, FinishReason, Reading, ToolCall, ToolCalls, Usage
from app.engines.openai_server import ServerKind
from app.engines.reasoning import ThinkSplitter
from app.engines.stop_text import StopSplitter
from app.errors import StreamCut

Chunk = Mapping[str, Any]

_MILLI: Final = 1e-3


def texts_of(chunk: Chunk) -> tuple[str, str]:
    """The reasoning (`reasoning_content`; in newer vLLM `reasoning`) and the answer's text in a chunk.

    A chunk of raw text has it beside where a chat's delta stands.
    """
    delta = _delta(chunk)
    text = delta.get("content") or _choice(chunk).get("text") or ""
    return delta.get("reasoning_content") or delta.get("reasoning") or "", text


def says_something(chunk: Chunk) -> bool:
    """Whether there is text in a chunk, or a part of a call of a function."""
    return any(texts_of(chunk)) or bool(_delta(chunk).get("tool_calls"))


def _choice(chunk: Chunk) -> Mapping[str, Any]:
    return (chunk.get("choices") or [{}])[0]  # type: ignore[no-any-return]


def _delta(chunk: Chunk) -> Mapping[str, Any]:
    return _choice(chunk).get("delta") or {}


class CallReader:
    """Puts calls of functions together, whose parts come by their index."""

    def __init__(self) -> None:
        self._calls: dict[int, ToolCall] = {}

    def feed(self, chunk: Chunk) -> None:
        """Take the parts in a chunk. One without an index is a whole call (some servers')."""
        for part in _delta(chunk).get("tool_calls") or ():
            index = part.get("index")
            if not isinstance(index, int):
                index = len(self._calls)
            function = part.get("function") or {}
            known = self._calls.get(index, ToolCall("", "", ""))
            self._calls[index] = ToolCall(
                known.id or part.get("id") or f"call_{uuid.uuid4().hex}",
                known.name or function.get("name") or "",
                known.arguments + (function.get("arguments") or ""),
            )

    def calls(self, *, cut: bool) -> tuple[ToolCall, ...]:
        """The calls, in the order of their indexes.

        Args:
            cut: the reply reached its bound, so that the last of them may not be whole; then it is left out.
        """
        calls = [self._calls[index] for index in sorted(self._calls)]
        calls = [ToolCall(call.id, call.name, call.arguments or "{}") for call in calls]
        if cut and calls and not _is_json(calls[-1].arguments):
            del calls[-1]
        return tuple(calls)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


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
    begun: bool = False,
    raw: bool = False,
    stop: Sequence[str] = (),
    load_seconds: float = 0.0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Reading | Delta | ToolCalls | Done, None]:
    """The events of one reply.

    Args:
        chunks: until `[DONE]` or the end of the stream.
        kind: the server.
        inside: the text begins within a <think> block.
        begun: the text goes on with an answer.
        raw: all text is the answer.
        stop: texts before which the reply ends, where the server leaves them in it.
        load_seconds: spent before, for the usage.
        clock: seconds; times the phases where the server does not tell.

    Raises:
        StreamCut: the stream ended without a finish_reason. Ollama's does so after more than 30 equal tokens in a row
            (recorded): from an Ollama that is a reply that repeated itself.
    """
    inside = inside and not begun
    splitter = ThinkSplitter(inside=inside, begun=begun)
    stops = StopSplitter(stop)
    calls = CallReader()
    ending = _Ending()
    began = clock()
    first: float | None = None
    async for chunk in chunks:
        ending.take(chunk)
        if progress := chunk.get("prompt_progress"):
            yield _reading(progress)
        reasoning, text = texts_of(chunk)
        if first is None and says_something(chunk):
            first = clock()
        calls.feed(chunk)
        text = stops.feed(text)
        if reasoning:
            # The server tells reasoning apart by itself, so no block is open in the text.
            splitter, inside = (ThinkSplitter(), False) if inside else (splitter, False)
            yield Delta(reasoning, "reasoning")
        for delta in _deltas(splitter, text, raw):
            yield delta
    for delta in (*_deltas(splitter, stops.flush(), raw), *splitter.flush()):
        yield delta
    if ending.reason is None and not (kind.ends_repetition and first is not None):
        raise StreamCut(engine=kind.label)
    asked_for = calls.calls(cut=ending.reason == "length")
    if asked_for:
        yield ToolCalls(asked_for)
    reason = "stop" if stops.stopped else ending.reason
    ended = clock()
    first = ended if first is None else first
    yield Done(_finish(reason, bool(asked_for)), _usage(ending, load_seconds, first - began, ended - first))


def _deltas(splitter: ThinkSplitter, text: str, raw: bool) -> Sequence[Delta]:
    if raw:
        return [Delta(text)] if text else []
    return splitter.feed(text)


def _finish(reason: str | None, called: bool) -> FinishReason:
    """With a function that had to be called, OpenAI and vLLM say `stop`."""
    if reason is None:
        return "repetition"
    if reason == "length":
        return "length"
    return "tool_calls" if called else "stop"


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
