"""Replies in the words of OpenAI's /v1/responses, whole and as a stream of its event types."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from app.api.openai_forms import calls_of, counts, reasoning_tokens
from app.api.openai_problems import refusal
from app.api.openai_responses import ResponseRequest
from app.api.problems import problem_of
from app.api.programs import Defaults
from app.api.sse import dump
from app.engines.base import Delta, ToolCall, ToolCalls
from app.errors import ChatError, Language
from app.turn import ChatTurn, Event

_Json = dict[str, Any]


class ResponseForm:
    """A reply as OpenAI's Responses API has it.

    Args:
        turn: the reply.
        language: of errors.
        asked: the request, much of which is said back.
        defaults: what it was sampled with where the request did not say.
    """

    def __init__(self, turn: ChatTurn, language: Language, asked: ResponseRequest, defaults: Defaults) -> None:
        self.turn = turn
        self._language = language
        self._asked = asked
        self._defaults = defaults
        self._id = f"resp_{uuid4().hex}"
        self._created = int(time.time())
        self._number = 0
        self._parallel = asked.parallel_tool_calls is not False
        self._open: _Json | None = None
        self._done: list[_Json] = []
        self._text = ""

    def events(self, events: Sequence[Event]) -> bytes:
        """See `Form`."""
        parts: list[bytes] = []
        for event in events:
            if isinstance(event, Delta):
                parts.append(self._piece(event))
            elif isinstance(event, ToolCalls):
                parts += [self._call(call) for call in event.calls if self._parallel or not self._called]
        return b"".join(parts)

    def finished(self) -> bytes:
        """See `Form`."""
        status = self._status()
        parts = [self._opening(), self._close(status)]
        parts.append(self._event(f"response.{status}", response=self._response(status)))
        return b"".join(parts)

    def failed(self, error: ChatError) -> bytes:
        """See `Form`."""
        problem = problem_of(error, self._language, messages="input")
        failure = {"code": problem.code, "message": problem.message}
        closed = [self._opening(), self._close("incomplete")]
        return b"".join([*closed, self._event("response.failed", response=self._response("failed", failure))])

    def refusal(self, error: ChatError) -> Response:
        """See `Form`."""
        return refusal(problem_of(error, self._language, messages="input"))

    def whole(self) -> _Json:
        """See `Form`."""
        turn = self.turn
        if turn.reasoning:
            self._done.append(_reasoning(turn.reasoning))
        if turn.text:
            self._done.append(_message(turn.text))
        if self._done and not turn.tool_calls:
            self._done[-1]["status"] = self._status()
        self._done += [_function_call(call) for call in calls_of(turn, parallel=self._parallel)]
        return self._response(self._status())

    @property
    def _called(self) -> bool:
        return any(item["type"] == "function_call" for item in self._done)

    def _status(self) -> str:
        return "incomplete" if self.turn.finish_reason in ("length", "repetition") else "completed"

    def _response(self, status: str, error: _Json | None = None) -> _Json:
        asked, ended = self._asked, status in ("completed", "incomplete", "failed")
        form = asked.text.format if asked.text else None
        choice = asked.tool_choice
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "max_tool_calls": None,
            "metadata": (asked.model_extra or {}).get("metadata") or {},
            "model": self.turn.model.id if self.turn.model else asked.model,
            "output": self._done if ended else [],
            "parallel_tool_calls": self._parallel,
            "previous_response_id": None,
            "reasoning": {"effort": asked.reasoning.effort if asked.reasoning else None, "summary": None},
            "service_tier": "default",
            "store": False,
            "temperature": self._defaults.temperature if asked.temperature is None else asked.temperature,
            "text": {"format": form.model_dump(exclude_none=True) if form else {"type": "text"}},
            "tool_choice": choice if choice is None or isinstance(choice, str) else choice.model_dump(),
            "tools": [tool.model_dump() for tool in asked.tools or ()],
            "top_logprobs": 0,
            "top_p": self._defaults.top_p if asked.top_p is None else asked.top_p,
            "truncation": "disabled" if asked.strict else "auto",
            "usage": self._usage() if ended else None,
            "user": None,
        } | ({"tool_choice": "auto"} if choice is None else {})

    def _usage(self) -> _Json:
        prompt, reply, cached = counts(self.turn)
        return {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": reply,
            "output_tokens_details": {"reasoning_tokens": reasoning_tokens(self.turn, reply)},
            "total_tokens": prompt + reply,
        }

    # The stream

    def _event(self, kind: str, **more: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._number, **more}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode("ascii"), dump(data))

    def _opening(self) -> bytes:
        if self._number:
            return b""
        kinds = ("response.created", "response.in_progress")
        return b"".join(self._event(kind, response=self._response("in_progress")) for kind in kinds)

    def _piece(self, delta: Delta) -> bytes:
        """A piece of text: in the item that is open, or in a new one."""
        wanted = "reasoning" if delta.kind == "reasoning" else "message"
        before = b""
        if self._open is None or self._open["type"] != wanted:
            before = self._opening() + self._close() + self._begin(wanted)
        assert self._open is not None
        self._text += delta.text
        kind = "response.reasoning_text.delta" if wanted == "reasoning" else "response.output_text.delta"
        more: _Json = {} if wanted == "reasoning" else {"logprobs": []}
        place = {"item_id": self._open["id"], "output_index": len(self._done), "content_index": 0}
        return before + self._event(kind, **place, delta=delta.text, **more)

    def _begin(self, kind: str) -> bytes:
        item = _reasoning("") if kind == "reasoning" else _message("")
        self._open, self._text = item, ""
        begun = item | {"status": "in_progress", "content": []}
        added = self._event("response.output_item.added", output_index=len(self._done), item=begun)
        place = {"item_id": item["id"], "output_index": len(self._done), "content_index": 0}
        return added + self._event("response.content_part.added", **place, part=item["content"][0])

    def _close(self, status: str = "completed") -> bytes:
        """The end of the item that is open."""
        if self._open is None:
            return b""
        item, self._open = self._open, None
        part = item["content"][0] | {"text": self._text}
        item |= {"status": status, "content": [part]}
        place = {"item_id": item["id"], "output_index": len(self._done), "content_index": 0}
        is_text = item["type"] == "message"
        kind = "output_text" if is_text else "reasoning_text"
        more: _Json = {"logprobs": []} if is_text else {}
        parts = [
            self._event(f"response.{kind}.done", **place, text=self._text, **more),
            self._event("response.content_part.done", **place, part=part),
            self._event("response.output_item.done", output_index=len(self._done), item=item),
        ]
        self._done.append(item)
        return b"".join(parts)

    def _call(self, call: ToolCall) -> bytes:
        opened = self._opening() + self._close()
        item, index = _function_call(call), len(self._done)
        place = {"item_id": item["id"], "output_index": index}
        begun = item | {"arguments": "", "status": "in_progress"}
        parts = [
            self._event("response.output_item.added", output_index=index, item=begun),
            self._event("response.function_call_arguments.delta", **place, delta=call.arguments),
            self._event("response.function_call_arguments.done", **place, name=call.name, arguments=call.arguments),
            self._event("response.output_item.done", output_index=index, item=item),
        ]
        self._done.append(item)
        return opened + b"".join(parts)


def _message(text: str) -> _Json:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": f"msg_{uuid4().hex}", "type": "message", "status": "completed", "role": "assistant"} | {
        "content": [part]
    }


def _reasoning(text: str) -> _Json:
    content = [{"type": "reasoning_text", "text": text}]
    return {"id": f"rs_{uuid4().hex}", "type": "reasoning", "status": "completed", "summary": [], "content": content}


def _function_call(call: ToolCall) -> _Json:
    return {
        "id": f"fc_{uuid4().hex}",
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }
