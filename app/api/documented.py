"""How the OpenAPI document tells which statuses an operation of either API may answer with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel

Statuses = dict[int | str, dict[str, Any]]

_EVENT: Final = {"type": "object", "properties": {"event": {"type": "string"}, "data": {"type": "string"}}}
_EVENTS: Final = {"text/event-stream": {"schema": _EVENT}}
WORDS: Final[Mapping[int, str]] = {
    400: "Something in the request cannot be honoured; `param` names it. `context_length_exceeded`: it does not fit; "
    "`too_many_messages`, `too_deep`: more, or deeper, than is taken here.",
    401: "A key is wanted.",
    403: "This key may not.",
    404: "There is no such model (`model_not_found`), or no such path.",
    413: "A message, or the whole request, is too large.",
    422: "A field has a wrong type or a value out of range; `param` names it.",
    429: "The queue is full (`queue_full`), a request of yours waits in it already (`already_waiting`), or you have "
    "asked too often (`rate_limit_exceeded`); `Retry-After` says when to come again.",
    500: "Something broke in this server.",
    502: "The engine broke.",
    503: "The engine is away or has not enough memory, the server is ending or short of memory (`memory_short`), or "
    "the request has waited for `MAX_WAIT` (`waited_too_long`).",
    504: "The engine has been silent for too long.",
}


def statuses(
    numbers: Sequence[int], error: type[BaseModel], *, stream: bool = False, words: Mapping[int, str] = WORDS
) -> Statuses:
    """Statuses of an operation.

    Args:
        numbers: those of its errors.
        error: what they are answered with.
        stream: whether the answer may be a stream.
        words: what each status means.
    """
    found: Statuses = {number: {"model": error, "description": words[number]} for number in numbers}
    if stream:
        found[200] = {"description": "The reply; with `stream`, as server-sent events.", "content": dict(_EVENTS)}
    return found
