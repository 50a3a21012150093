"""What an API answers instead: a sentence for a person in the asker's language, and a word for a program."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from fastapi.responses import JSONResponse

from app.errors import LANGUAGES, Language

# By code: the status, and the sentences.
_REFUSALS: Final[dict[str, tuple[int, dict[Language, str]]]] = {
    "history_off": (
        409,
        {
            "en": "This server keeps no conversations, so there is nothing to take along or to delete.",
            "ru": "Этот сервер не хранит бесед, так что забирать и удалять нечего.",
        },
    ),
    "no_conversation": (
        404,
        {
            "en": "There is no such conversation any more. Load the page again to see those that are there.",
            "ru": "Такой беседы больше нет. Обновите страницу, чтобы увидеть те, что есть.",
        },
    ),
    "unknown_format": (
        422,
        {
            "en": "A conversation can be had as markdown or as json. Ask for one of the two.",
            "ru": "Беседу можно получить в виде markdown или json. Выберите одно из двух.",
        },
    ),
    "too_large": (
        413,
        {
            "en": "That file is too large: this server takes at most {limit} MiB. Bring the conversations one by one, "
            "as JSON files from the zip.",
            "ru": "Файл слишком велик: сервер принимает не больше {limit} МиБ. Загрузите беседы по одной, файлами JSON "
            "из архива.",
        },
    ),
    "not_an_export": (
        422,
        {
            "en": "That file is no export of this program, or it is damaged. Nothing was imported. Choose the zip or a "
            "JSON file that was downloaded here.",
            "ru": "Этот файл не выгружен из этой программы или повреждён. Ничего не загружено. Выберите zip или файл "
            "JSON, скачанный здесь.",
        },
    ),
    "newer_export": (
        422,
        {
            "en": "That file comes from a newer version of this program. Nothing was imported. Ask for an update of "
            "this server.",
            "ru": "Этот файл из более новой версии программы. Ничего не загружено. Попросите обновить этот сервер.",
        },
    ),
    "not_signed_in": (
        401,
        {"en": "Sign in first, then try again.", "ru": "Сначала войдите, потом попробуйте ещё раз."},
    ),
}


class Refused(Exception):
    """A request is answered with an error.

    Args:
        code: one of those above.
        retry_after: seconds after which the same may be allowed.
        facts: fill the sentence's places.
    """

    def __init__(self, code: str, *, retry_after: int | None = None, **facts: str | int) -> None:
        super().__init__(code)
        self.code = code
        self.retry_after = retry_after
        self.facts = facts

    def sentence(self, language: Language) -> str:
        """What happened and what to do next, in plain words."""
        return _REFUSALS[self.code][1][language].format(seconds=self.retry_after, **self.facts)

    @property
    def status(self) -> int:
        return _REFUSALS[self.code][0]


def asked_language(accept_language: str | None) -> Language:
    """The first of our languages in an Accept-Language header, as its weights order it; English if there is none."""
    wanted: list[tuple[float, int, Language]] = []
    for place, part in enumerate((accept_language or "").split(",")[:20]):
        tag, _, weight = part.partition(";")
        start = tag.strip().lower().partition("-")[0]
        language = next((known for known in LANGUAGES if known == start), None)
        try:
            share = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            share = 0.0
        if language is not None and share > 0:
            wanted.append((-share, place, language))
    return min(wanted)[2] if wanted else "en"


async def refusal(request: Request, problem: Exception) -> JSONResponse:
    """FastAPI's handler for `Refused`."""
    if not isinstance(problem, Refused):
        raise TypeError("this handler is for refusals")
    said = problem.sentence(asked_language(request.headers.get("accept-language")))
    headers = {"Retry-After": str(problem.retry_after)} if problem.retry_after is not None else None
    return JSONResponse({"detail": said, "code": problem.code}, status_code=problem.status, headers=headers)
