"""Replies in the words of OpenAI's /v1/chat/completions and /v1/completions, whole and as a stream.

What goes out for each token is put together from parts that are the same for a whole reply: only its text is new.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final
from uuid import uuid4

from starlette.responses import Response

from app.api.openai_problems import error_body, refusal
from app.api.problems import Problem, problem_of
from app.api.sse import dump
from app.engines.base import Delta, FinishReason, ModelInfo, ToolCall, ToolCalls
from app.errors import ChatError, Language
from app.metrics import ReplyMetrics
from app.turn import ChatTurn, Event

_DONE: Final = b"data: [DONE]\n\n"
# Stands where the text of a token goes.
_MARK: Final = "\ue000text\ue000"


def finish_reason(reason: FinishReason | None) -> str:
    """OpenAI's word for it. A reply that was ended for repeating itself was cut: `length`."""
    words: dict[FinishReason, str] = {"repetition": "length"}
    return words.get(reason or "stop", reason or "stop")


def framed(kind: str, request_id: str, created: int, model: ModelInfo | None, build: str) -> dict[str, Any]:
    """What every answer begins with."""
    name = model.id if model else ""
    made = blake2b(f"{build}\0{name}".encode(), digest_size=5).hexdigest()
    return {
        "id": request_id,
        "object": kind,
        "created": created,
        "model": name,
        "system_fingerprint": f"fp_{made}",
    }


def reasoning_tokens(turn: ChatTurn, reply_tokens: int) -> int:
    """No engine says how much of a reply was reasoning: its share of the text."""
    characters = len(turn.reasoning) + len(turn.text)
    return round(reply_tokens * len(turn.reasoning) / characters) if turn.reasoning else 0


def counts(turn: ChatTurn) -> tuple[int, int, int]:
    """Tokens of the prompt, of the reply, and of the prompt those that were not read again."""
    metrics = turn.metrics
    return (0, 0, 0) if metrics is None else counted(metrics)


def counted(metrics: ReplyMetrics) -> tuple[int, int, int]:
    """The same, of what a reply took."""
    return metrics.read_tokens, metrics.reply_tokens, metrics.cached_tokens or 0


def usage(turn: ChatTurn) -> dict[str, Any]:
    """What a reply cost."""
    prompt, reply, cached = counts(turn)
    return cost(prompt, reply, cached, reasoning_tokens(turn, reply))


def cost(prompt: int, reply: int, cached: int, reasoning: int = 0) -> dict[str, Any]:
    """Tokens as OpenAI words them."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": reply,
        "total_tokens": prompt + reply,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def calls_of(turn: ChatTurn, *, parallel: bool) -> tuple[ToolCall, ...]:
    """The functions asked for; the first alone where a program wants one at a time."""
    return turn.tool_calls if parallel else turn.tool_calls[:1]


class CompletionForm:
    """Text completions, and what chat completions have in common with them.

    Args:
        turn: the reply.
        language: of errors.
        include_usage: whether the stream ends with what it cost.
        build: what a fingerprint is made of, besides the model.
    """

    prefix: str = "cmpl-"
    object: str = "text_completion"
    object_of_chunks: str = "text_completion"
    messages: str = "prompt"

    def __init__(self, turn: ChatTurn, language: Language, *, include_usage: bool, build: str) -> None:
        self.turn = turn
        self._language = language
        self._include_usage = include_usage
        self._build = build
        self._id = f"{self.prefix}{uuid4().hex}"
        self._created = int(time.time())
        self._templates: dict[str, tuple[bytes, bytes]] = {}
        self._began = False

    def events(self, events: Sequence[Event]) -> bytes:
        """See `Form`."""
        parts: list[bytes] = []
        for event in events:
            if isinstance(event, Delta):
                before, after = self._template(event.kind)
                parts += (before, dump(event.text), after)
            elif isinstance(event, ToolCalls):
                parts.append(self._calls(event.calls))
        if parts and not self._began:
            self._began = True
            parts.insert(0, self._opening())
        return b"".join(parts)

    def finished(self) -> bytes:
        """See `Form`."""
        opening = b"" if self._began else self._opening()
        last = self._chunk(self._nothing(), finish_reason(self.turn.finish_reason))
        cost = self._data({"choices": [], "usage": usage(self.turn)}) if self._include_usage else b""
        return opening + last + cost + _DONE

    def failed(self, error: ChatError) -> bytes:
        """See `Form`: neither a finish_reason nor `[DONE]`, so that nobody takes it for the whole."""
        return b"data: " + dump(error_body(self._problem(error))) + b"\n\n"

    def refusal(self, error: ChatError) -> Response:
        """See `Form`."""
        return refusal(self._problem(error))

    def _problem(self, error: ChatError) -> Problem:
        return problem_of(error, self._language, messages=self.messages)

    def whole(self) -> dict[str, Any]:
        """See `Form`."""
        choice = {"index": 0, **self._said(), "logprobs": None, "finish_reason": finish_reason(self.turn.finish_reason)}
        return self._frame(self.object) | {"choices": [choice], "usage": usage(self.turn)}

    def _said(self) -> dict[str, Any]:
        return {"text": self.turn.text}

    def _opening(self) -> bytes:
        return b""

    def _nothing(self) -> dict[str, Any]:
        return {"text": ""}

    def _piece(self, kind: str, text: str) -> dict[str, Any]:
        return {"text": text}

    def _calls(self, calls: Sequence[ToolCall]) -> bytes:
        return b""

    def _frame(self, kind: str) -> dict[str, Any]:
        return framed(kind, self._id, self._created, self.turn.model, self._build)

    def _chunk(self, said: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, **said, "logprobs": None, "finish_reason": reason}
        return self._data({"choices": [choice]} | ({"usage": None} if self._include_usage else {}))

    def _data(self, content: dict[str, Any]) -> bytes:
        return b"data: " + dump(self._frame(self.object_of_chunks) | content) + b"\n\n"

    def _template(self, kind: str) -> tuple[bytes, bytes]:
        """The chunk of a token, before and after its text."""
        if kind not in self._templates:
            before, _, after = self._chunk(self._piece(kind, _MARK)).partition(dump(_MARK))
            self._templates[kind] = before, after
        return self._templates[kind]


class ChatForm(CompletionForm):
    """Chat completions. Reasoning is `reasoning_content`, as DeepSeek and vLLM have it.

    Args:
        parallel: whether the model may ask for several functions at once.
    """

    prefix = "chatcmpl-"
    object = "chat.completion"
    object_of_chunks = "chat.completion.chunk"
    messages = "messages"

    def __init__(
        self, turn: ChatTurn, language: Language, *, include_usage: bool, build: str, parallel: bool = True
    ) -> None:
        super().__init__(turn, language, include_usage=include_usage, build=build)
        self._parallel = parallel
        self._called = 0

    def _said(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.turn.text or None, "refusal": None}
        if self.turn.reasoning:
            message["reasoning_content"] = self.turn.reasoning
        if calls := calls_of(self.turn, parallel=self._parallel):
            message["tool_calls"] = [_call(call) for call in calls]
        else:
            message["content"] = self.turn.text
        return {"message": message}

    def _opening(self) -> bytes:
        return self._chunk({"delta": {"role": "assistant", "content": ""}})

    def _nothing(self) -> dict[str, Any]:
        return {"delta": {}}

    def _piece(self, kind: str, text: str) -> dict[str, Any]:
        return {"delta": {"reasoning_content" if kind == "reasoning" else "content": text}}

    def _calls(self, calls: Sequence[ToolCall]) -> bytes:
        wanted = calls if self._parallel else calls[: 1 - min(self._called, 1)]
        said = [{"index": self._called + number, **_call(call)} for number, call in enumerate(wanted)]
        self._called += len(said)
        return self._chunk({"delta": {"tool_calls": said}}) if said else b""


def _call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
