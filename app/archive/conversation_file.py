"""One conversation as JSON: a versioned format with all that is needed to have it again, and nothing of who had it.

Getting it out checks nothing: what is stored has to get out. Getting it in checks all: the file may be anybody's.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json as parse

from app import __version__
from app.archive.parts import ElementPart, Part, StepPart, ThreadPart, ThumbPart
from app.storage.records import ORIGIN, Conversation, Json, Step
from app.transcript import SETTINGS

FORMAT: Final = "chainlit-ollama conversation"
VERSION: Final = 1
# Of what is kept with a thread, what is the conversation's; the rest is about a browser's session.
THREAD_METADATA: Final = (SETTINGS, "chat_settings", "chat_profile")

# Bounds of a file. None of them is near what a conversation has; what is made of JSON takes up to a hundred times the
# memory of its signs, and each thing that is wrong in it takes more.
_MOST_VALUES: Final = 1_000_000
_MOST_PARTS: Final = 20_000
_MOST_INSIDE: Final = 200
_DEEPEST: Final = 12
_LARGEST_NUMBER: Final = 2**53

_KEYS: Final = {"format", "version", "program", "conversation", "steps", "elements", "thumbs"}


class NotAnExport(Exception):
    """It is not what an export is made of."""


class NewerExport(NotAnExport):
    """It is of a version of the format that this program does not know."""


@dataclass(frozen=True, slots=True)
class ConversationFile:
    """A file that was found good; it had `size` bytes."""

    thread: ThreadPart
    steps: list[StepPart]
    elements: list[ElementPart]
    thumbs: list[ThumbPart]
    size: int


def to_json(conversation: Conversation) -> bytes:
    """A conversation as a file, in UTF-8."""
    thread = conversation.thread
    whole = {
        "format": FORMAT,
        "version": VERSION,
        "program": __version__,
        "conversation": {
            "id": thread.metadata.get(ORIGIN) or thread.id,
            "name": thread.name,
            "metadata": {name: thread.metadata[name] for name in THREAD_METADATA if name in thread.metadata},
            "tags": thread.tags,
            "created_at": thread.created_at,
            "updated_at": thread.updated_at,
        },
        "steps": [_step(step) for step in conversation.steps],
        "elements": [
            {"id": element.id, "step_id": element.step_id, "content": element.content}
            for element in conversation.elements
        ],
        "thumbs": [
            {"step_id": step_id, "value": thumb.value, "comment": thumb.comment, "created_at": thumb.created_at}
            for step_id, thumb in conversation.thumbs.items()
        ],
    }
    return json.dumps(whole, ensure_ascii=False, indent=1).encode()


def _step(step: Step) -> Json:
    values = asdict(step)
    del values["thread_id"]
    return values


def from_json(data: bytes) -> ConversationFile:
    """A file as `to_json` makes it.

    Raises:
        NewerExport: a newer version of this program has made it.
        NotAnExport: it is none.
    """
    if sum(data.count(sign) for sign in (b",", b"[", b"{")) > _MOST_VALUES:
        raise NotAnExport
    try:
        # Not pydantic's own reading of JSON: it gathers all that is wrong, which may be a million things.
        whole = parse(data, allow_inf_nan=False)
    except ValueError:
        raise NotAnExport from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT or type(whole.get("version")) is not int:
        raise NotAnExport
    if whole["version"] > VERSION:
        raise NewerExport
    if whole["version"] != VERSION or whole.keys() != _KEYS or not isinstance(whole["program"], str):
        raise NotAnExport
    found = ConversationFile(
        _part(ThreadPart, whole["conversation"]),
        _parts(StepPart, whole["steps"]),
        _parts(ElementPart, whole["elements"]),
        _parts(ThumbPart, whole["thumbs"]),
        len(data),
    )
    if found.thread.metadata.keys() - set(THREAD_METADATA):
        raise NotAnExport
    ids = _all_different([step.id for step in found.steps])
    _all_different([element.id for element in found.elements])
    if _all_different([thumb.step_id for thumb in found.thumbs]) - ids:
        raise NotAnExport
    return found


P = TypeVar("P", bound=Part)


def _parts(kind: type[P], values: Any) -> list[P]:
    if not isinstance(values, list) or len(values) > _MOST_PARTS:
        raise NotAnExport
    return [_part(kind, value) for value in values]


def _part(kind: type[P], value: Any) -> P:
    _check(value, 1)
    try:
        return kind.model_validate(value)
    except ValidationError:
        raise NotAnExport from None


def _check(value: Any, depth: int) -> None:
    """See that a value of JSON is plain and small; texts are as a database takes them."""
    if isinstance(value, dict | list):
        if len(value) > _MOST_INSIDE or depth > _DEEPEST:
            raise NotAnExport
        for item in value:
            _check(item, depth + 1)
        if isinstance(value, dict):
            for item in value.values():
                _check(item, depth + 1)
    elif isinstance(value, str):
        if "\0" in value:
            raise NotAnExport
    elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= _LARGEST_NUMBER):
        raise NotAnExport


def _all_different(ids: list[str]) -> set[str]:
    different = set(ids)
    if len(different) < len(ids):
        raise NotAnExport
    return different
