"""What a file of a conversation is made of. The file may be anybody's, so nothing is taken that could do harm later: to
the page that shows it, or to the window that is made over it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.page.preferences import Preferences
from app.storage.records import Json
from app.transcript import SETTINGS

_LONGEST_TEXT: Final = 4_000_000  # characters
_LONGEST_WORD: Final = 1_000
_MOST_TOKENS: Final = 100_000_000


def _time(text: str) -> str:
    datetime.fromisoformat(text)
    return text


def _moment(text: str) -> str:
    """A time that others are compared with as text, in the form of all the others; none is later than now."""
    at = datetime.fromisoformat(text)
    try:
        at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError:
        raise ValueError("no time") from None
    return min(at, datetime.now(UTC)).isoformat(timespec="microseconds")


def _thread_metadata(values: Json) -> Json:
    """The settings are those that a visitor could have set; a conversation of before has none."""
    if SETTINGS not in values:
        return values
    settings = values[SETTINGS]
    if not isinstance(settings, dict):
        raise ValueError("no settings")
    return values | {SETTINGS: Preferences.allowed(settings)}


Text = Annotated[str, Field(max_length=_LONGEST_TEXT)]
Word = Annotated[str, Field(max_length=_LONGEST_WORD)]
Id = Annotated[str, Field(min_length=1, max_length=200)]
Time = Annotated[str, Field(max_length=40), AfterValidator(_time)]
Moment = Annotated[str, Field(max_length=40), AfterValidator(_moment)]
Tokens = Annotated[int, Field(ge=0, le=_MOST_TOKENS)]
# What is neither a text, a number nor a flag could break the page that shows it.
Fact = bool | int | float | Text | None


class Part(BaseModel):
    """A part of the file, with nothing unknown in it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _OpenPart(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class ThreadPart(Part):
    """The conversation itself; `id` is the one that it had where it was first exported."""

    id: Id
    name: Text | None
    metadata: Annotated[Json, AfterValidator(_thread_metadata)]
    tags: list[Word]
    created_at: Moment
    updated_at: Moment


class StepMetadata(_OpenPart):
    """What the window over the conversation is made of has to be numbers."""

    tokens: dict[Word, Tokens] = {}
    left_out: Tokens | None = None


class DisplayPart(Part):
    """What else the page needs to draw a step, by Chainlit's names."""

    language: Word | None = None
    showInput: bool | Word | None = None
    defaultOpen: bool | None = None
    autoCollapse: bool | None = None
    tags: list[Word] | None = None
    waitForAnswer: Literal[False] | None = None
    command: Word | None = None
    modes: dict[Word, Word] | None = None


class StepPart(Part):
    """A message, or what led to one."""

    id: Id
    parent_id: Id | None
    type: Literal[
        "user_message",
        "assistant_message",
        "system_message",
        "llm",
        "run",
        "tool",
        "embedding",
        "retrieval",
        "rerank",
        "undefined",
    ]
    name: Word
    input: Text
    output: Text
    is_error: bool
    metadata: StepMetadata
    display: DisplayPart
    created_at: Time | None
    started_at: Time | None
    ended_at: Time | None


class MetricsPart(_OpenPart):
    """What a reply took."""

    __pydantic_extra__: dict[str, Fact]


class StatusPart(_OpenPart):
    """What the line under a reply shows."""

    __pydantic_extra__: dict[str, Fact]

    notes: list[Text] | None = None
    metrics: MetricsPart | None = None


class ContentPart(Part):
    """An element as the page draws it: the one kind that this program makes. Others show files and pages from
    elsewhere, which nobody would expect of a conversation."""

    id: Id
    threadId: Id | None = None
    forId: Id | None = None
    type: Literal["custom"]
    name: Literal["ReplyStatus"]
    props: StatusPart
    display: Literal["inline"] = "inline"
    mime: Word | None = None
    url: None = None
    chainlitKey: None = None
    objectKey: None = None
    size: None = None
    page: None = None
    autoPlay: None = None
    playerConfig: None = None
    language: None = None


class ElementPart(Part):
    """Something shown with a step."""

    id: Id
    step_id: Id | None
    content: ContentPart


class ThumbPart(Part):
    """What the visitor thinks of a step: 1 up, 0 down."""

    step_id: Id
    value: Literal[0, 1]
    comment: Text | None
    created_at: Moment
