"""What a program is told when something went wrong: the HTTP status, the code, the sentence, when to come again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app import errors
from app.errors import ChatError, Language

_SOON: Final = 5  # seconds after which to come again
_LATER: Final = 30
# OpenAI's client takes no longer one at its word, and asks again within a second instead; by then there may be a place.
_PATIENCE: Final = 60

# Status, and seconds after which to come again. The nearest of an error's classes counts.
_STATUSES: Final[dict[type[ChatError], tuple[int, int | None]]] = {
    ChatError: (500, None),
    errors.InputError: (400, None),
    errors.MessageTooLarge: (413, None),
    errors.UnknownModel: (404, None),
    errors.NoModel: (503, _LATER),
    errors.Busy: (429, _SOON),
    errors.WaitedTooLong: (503, _SOON),
    errors.TooManyRequests: (429, None),
    errors.Stopping: (503, _LATER),
    errors.MemoryShort: (503, _LATER),
    errors.EngineError: (502, None),
    errors.EngineUnreachable: (503, _LATER),
    errors.EngineSilent: (504, None),
    errors.EngineRefused: (400, None),
    errors.ModelMissing: (404, None),
    errors.OutOfMemory: (503, None),
    errors.ModelProcessDied: (503, _SOON),
    errors.ModelTooLarge: (503, None),
    errors.ModelBroken: (503, None),
    errors.ModelNotReady: (503, _LATER),
    errors.LocalModelsNotInstalled: (503, None),
}
# OpenAI's names of what the engines' features are asked for by.
_PARAMETERS: Final = {"raw": "prompt", "json_object": "response_format", "json_schema": "response_format"}
_MESSAGES: Final = "messages"
_ABOUT_MESSAGES: Final = (
    errors.EmptyMessage,
    errors.MessageTooLarge,
    errors.MessageTooLong,
    errors.ConversationTooLong,
    errors.SystemPromptTooLong,
    errors.ReplyTooLong,
    errors.PromptTooLong,
    errors.TooManyMessages,
    errors.TooManyPrompts,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is an error.

    Attributes:
        status: of HTTP.
        code: for programs.
        message: for people.
        parameter: which part of the request it is about, None: none.
        retry_after: seconds after which to come again, None: not known, or never.
    """

    status: int
    code: str
    message: str
    parameter: str | None = None
    retry_after: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}


def problem_of(error: ChatError, language: Language, *, messages: str = _MESSAGES) -> Problem:
    """`error` as a program is told it; `messages`: the field in which it sent the conversation, or the text."""
    status, retry_after = next(_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES)
    if isinstance(error, errors.TooManyRequests):
        retry_after = error.seconds
    elif isinstance(error, errors.Busy) and error.seconds is not None:
        retry_after = min(error.seconds, _PATIENCE)
    parameter: str | None = None
    if isinstance(error, errors.Unsupported | errors.NotTaken | errors.NotSent | errors.TwoValues):
        named = str(error.facts["parameter"])
        parameter = messages if named == _MESSAGES else _PARAMETERS.get(named, named)
    elif isinstance(error, errors.UnknownModel | errors.ModelMissing):
        parameter = "model"
    elif isinstance(error, errors.TextTooLong):
        parameter = "input"
    elif isinstance(error, _ABOUT_MESSAGES):
        parameter = messages
    return Problem(status, error.code, error.sentence(language, to_program=True), parameter, retry_after)


def language_of(accept: str | None) -> Language:
    """The language of a request's Accept-Language: the first of ours in it, English where there is none."""
    for wish in (accept or "").lower().split(","):
        tag = wish.partition(";")[0].strip()[:2]
        if tag in ("en", "ru"):
            return "ru" if tag == "ru" else "en"
    return "en"
