"""The lines of one reply of Ollama, made events.

Source: https://docs.ollama.com/api; what is left out of a line when it is zero or empty was seen in recordings.
"""

from __future__ import annotations

import json
import uuid
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from app.engines.base import Delta, Done, FinishReason, ToolCall, ToolCalls, Usage
from app.engines.ollama_errors import LABEL, error_words, failure
from app.engines.ollama_protocol import line_of
from app.engines.reasoning import ThinkSplitter
from app.errors import EngineFailed

_SECONDS: Final = 1e-9


class _LastLine(BaseModel):
    """The line that ends a reply. Durations in nanoseconds; zero counts are left out."""

    done_reason: str = ""
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


class _Function(BaseModel):
    name: str
    arguments: dict[str, Any] = {}


class _Call(BaseModel):
    """A function that the model asks for. Servers older than 0.12 give it no id."""

    id: str = ""
    function: _Function


class _Calls(BaseModel):
    tool_calls: list[_Call]


class ReplyReader:
    """Reads the lines of one reply.

    Args:
        model: named in errors.
        raw: of /api/generate, where all text is the answer.
        continues: it goes on with an answer, so that no block of reasoning begins it.
    """

    def __init__(self, model: str, *, raw: bool = False, continues: bool = False) -> None:
        self._model = model
        self._raw = raw
        self._splitter = ThinkSplitter(begun=continues)
        self._last: dict[str, Any] | None = None
        self._called = False
        self.lines = 0

    @property
    def ended(self) -> bool:
        """Whether the line that ends a reply has come."""
        return self._last is not None

    def feed(self, line: bytes) -> list[Delta | ToolCalls]:
        """What is in a line: text, reasoning and answer told apart, and calls of functions.

        Raises:
            EngineError: the line is an error, or not a line of a reply.
        """
        found = line_of(line)
        if "error" in found:
            raise failure(error_words(found["error"]), self._model)
        self.lines += 1
        if found.get("done"):
            self._last = found
        if self._raw:
            return [Delta(str(found["response"]))] if found.get("response") else []
        message = found.get("message")
        return self._said(message) if isinstance(message, dict) else []

    def _said(self, message: dict[str, Any]) -> list[Delta | ToolCalls]:
        events: list[Delta | ToolCalls] = []
        if thinking := message.get("thinking"):
            events.append(Delta(str(thinking), "reasoning"))
        if content := message.get("content"):
            events += self._splitter.feed(str(content))
        if message.get("tool_calls"):
            self._called = True
            events.append(_calls(message))
        return events

    def held_back(self) -> list[Delta]:
        """The reply is at its end: text that could have been the beginning of a tag until now."""
        return self._splitter.flush()

    def done(self, *, loading: float, reading: float, writing: float) -> Done:
        """The end of the reply.

        Without a last line it was ended by Ollama's guard against more than 30 equal tokens in a row, which says
        neither so nor any count (recorded: repetition_guard); each line was a token.

        Args:
            loading, reading, writing: seconds by our own clock. `loading` was asked for apart and always counts;
                the others only where Ollama gives none.

        Raises:
            EngineFailed: the last line is not one.
        """
        if self._last is None:
            return Done("repetition", Usage(None, self.lines, loading, reading, writing))
        try:
            last = _LastLine.model_validate(self._last)
        except ValidationError:
            raise EngineFailed(engine=LABEL, detail="it ended a reply with a line that makes no sense") from None
        usage = Usage(
            prompt_tokens=last.prompt_eval_count,
            reply_tokens=last.eval_count,
            load_seconds=loading + last.load_duration * _SECONDS,
            prompt_seconds=last.prompt_eval_duration * _SECONDS,
            generation_seconds=last.eval_duration * _SECONDS,
        )
        reason: FinishReason = "tool_calls" if self._called else "stop"
        return Done("length" if last.done_reason == "length" else reason, usage)


def _calls(message: dict[str, Any]) -> ToolCalls:
    try:
        found = _Calls.model_validate(message).tool_calls
    except ValidationError:
        raise EngineFailed(engine=LABEL, detail="it asked for a function in a way that makes no sense") from None
    return ToolCalls(
        tuple(
            ToolCall(
                call.id or f"call_{uuid.uuid4().hex}",
                call.function.name,
                json.dumps(call.function.arguments, ensure_ascii=False),
            )
            for call in found
        )
    )
