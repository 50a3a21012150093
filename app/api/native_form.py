"""Replies in the native API's words, whole and as a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from app.api.openai_forms import finish_reason
from app.api.problems import problem_of
from app.api.sse import dump
from app.api.unknown import in_our_form
from app.engines.base import Delta, FinishReason, ModelInfo
from app.errors import ChatError, Language
from app.forward import Forwarded
from app.metrics import ReplyMetrics
from app.turn import ChatTurn, Event

_MILLI: Final = 1000


def utc(moment: datetime | None = None) -> str:
    """A moment (by default this one) in UTC, ISO 8601."""
    return (moment or datetime.now(UTC)).isoformat(timespec="milliseconds")


class NativeForm:
    """See `Form`.

    Args:
        turn: the reply.
        language: of errors.
        prompt: what was asked.
    """

    def __init__(self, turn: ChatTurn, language: Language, prompt: str) -> None:
        self.turn = turn
        self._language = language
        self._prompt = prompt
        # What is the same around the text of each piece.
        opening = b'data: {"request_id":' + dump(turn.asker.request_id)
        self._openings = {"answer": opening + b',"delta":', "reasoning": opening + b',"reasoning":'}

    def events(self, events: Sequence[Event]) -> bytes:
        """See `Form`."""
        return b"".join(
            self._openings[event.kind] + dump(event.text) + b',"done":false}\n\n'
            for event in events
            if isinstance(event, Delta)
        )

    def finished(self) -> bytes:
        """See `Form`: everything again, in one event."""
        return _event({**self.whole(), "done": True})

    def failed(self, error: ChatError) -> bytes:
        """See `Form`. There is no `response`, so that nobody takes it for the whole."""
        said = failure(error, self._language)
        return _event({"status": "error", "request_id": self.turn.asker.request_id, **said, "done": True})

    def refusal(self, error: ChatError) -> Response:
        """See `Form`."""
        return in_our_form(problem_of(error, self._language))

    def whole(self) -> Mapping[str, Any]:
        """See `Form`."""
        turn = self.turn
        assert turn.metrics is not None
        thought = {"reasoning": turn.reasoning} if turn.reasoning else {}
        said = written(self._prompt, turn.text, turn.finish_reason, turn.model, turn.metrics)
        return {"request_id": turn.asker.request_id, **said, **thought, "timestamp": utc()}


def written(
    prompt: str, text: str, reason: FinishReason | None, model: ModelInfo | None, metrics: ReplyMetrics
) -> dict[str, Any]:
    """What a model wrote, and what it took."""
    first = metrics.first_token_seconds
    return {
        "status": "success",
        "prompt": prompt,
        "response": text,
        "model": model.id if model else None,
        "finish_reason": finish_reason(reason),
        "prompt_tokens": metrics.read_tokens,
        "response_tokens": metrics.reply_tokens,
        "total_tokens": metrics.context_used,
        "generation_time_ms": _milli(metrics.total_seconds),
        "time_to_first_token_ms": None if first is None else _milli(first),
    }


def forwarded(result: Forwarded, language: Language) -> dict[str, Any]:
    """What came of one prompt of several."""
    if result.error is not None:
        return {"status": "error", "prompt": result.prompt, **failure(result.error, language)}
    return written(result.prompt, result.text, result.finish_reason, result.model, result.metrics)


def failure(error: ChatError, language: Language) -> dict[str, str]:
    """The error as a part of an answer: as `in_our_form` has it."""
    problem = problem_of(error, language)
    return {"detail": problem.message, "code": problem.code}


def _milli(seconds: float) -> float:
    return round(seconds * _MILLI, 3)


def _event(content: Mapping[str, Any]) -> bytes:
    return b"data: " + dump(content) + b"\n\n"
