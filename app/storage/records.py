"""What the database holds, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

Json = dict[str, Any]

# Where a thread's metadata holds the id that it had where it was exported.
ORIGIN: Final = "imported_from"


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who writes. `identifier` is the name that a login or a cookie leads to; `metadata` holds preferences too.

    A token that was signed for another `token_version` is good no more.
    """

    id: str
    identifier: str
    metadata: Json
    created_at: str
    token_version: int = 0


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation. `visitor` is its owner's identifier; times are ISO 8601."""

    id: str
    user_id: str
    visitor: str
    name: str | None
    metadata: Json
    tags: list[str]
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class Step:
    """A message, or what led to one. `display` is what else the page needs to draw it; times are ISO 8601."""

    id: str
    thread_id: str
    parent_id: str | None = None
    type: str = "undefined"
    name: str = ""
    input: str = ""
    output: str = ""
    is_error: bool = False
    metadata: Json = field(default_factory=dict)
    display: Json = field(default_factory=dict)
    created_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None


@dataclass(frozen=True, slots=True)
class Element:
    """Something shown with a step; `content` is all of it, as the page draws it."""

    id: str
    thread_id: str
    step_id: str | None
    content: Json


@dataclass(frozen=True, slots=True)
class Thumb:
    """What a visitor thinks of a step: `value` is 1 (up) or 0 (down)."""

    id: str
    step_id: str
    value: int
    comment: str | None
    created_at: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A thread with all that belongs to it, in the order in which it came. `thumbs` go by their step's id."""

    thread: Thread
    steps: tuple[Step, ...]
    elements: tuple[Element, ...]
    thumbs: dict[str, Thumb]


@dataclass(frozen=True, slots=True)
class ThreadPage:
    """Some of a visitor's threads, the one used last first, and where the next page begins (None: it is the last)."""

    threads: tuple[Thread, ...]
    next_cursor: str | None


class ThreadDeleted(LookupError):
    """The thread was deleted by its visitor, so nothing is added to it any more."""
