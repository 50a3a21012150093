"""What an API answers instead: a sentence for a person in the asker's language, and a word for a program."""

from __future__ import annotations

from typing import Final

from fastapi import Request
from fastapi.responses import JSONResponse

from app.account_errors import AccountError, TooManyTries
from app.errors import LANGUAGES, Language
from app.paths import LOGIN

# By code: the status, and the sentences.
_REFUSALS: Final[dict[str, tuple[int, dict[Language, str]]]] = {
    "history_off": (
        409,
        {
            "en": "This server keeps no conversations, so there is nothing to take along or to delete.",
            "ru": "Этот сервер не хранит бесед, так что забирать и удалять нечего.",
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
    "request_too_large": (
        413,
        {
            "en": "That is too much at once: at most {limit} bytes are taken here. Send less.",
            "ru": "Слишком много сразу: здесь принимается не больше {limit} байт. Отправьте меньше.",
        },
    ),
    "too_deep": (
        400,
        {
            "en": "That JSON is nested too deeply: at most {most} levels are taken here. Make it flatter.",
            "ru": "Слишком глубокая вложенность JSON: здесь принимается не больше {most} уровней. Сделайте его проще.",
        },
    ),
    "comment_too_long": (
        422,
        {
            "en": "That comment is too long: at most {most} characters are kept. Make it shorter.",
            "ru": "Комментарий слишком длинный: хранится не больше {most} знаков. Сократите его.",
        },
    ),
    "too_slow": (
        408,
        {
            "en": "The file came too slowly, and others wait to bring theirs. Nothing was imported. Try again with a "
            "better connection, or bring the conversations one by one, as JSON files from the zip.",
            "ru": "Файл передавался слишком медленно, а загрузки ждут и другие. Ничего не загружено. Попробуйте ещё "
            "раз при лучшей связи или загрузите беседы по одной, файлами JSON из архива.",
        },
    ),
    "no_room": (
        413,
        {
            "en": "With that import your conversations would take more than {limit} MiB, the most that one visitor "
            "may have here. Nothing was imported. Delete what you no longer need, or bring fewer conversations, as "
            "JSON files from the zip.",
            "ru": "С этой загрузкой ваши беседы заняли бы больше {limit} МиБ, а больше одному посетителю здесь не "
            "положено. Ничего не загружено. Удалите ненужное или загрузите не все беседы, файлами JSON из архива.",
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
    "for_administrators": (
        403,
        {
            "en": "The dashboard is for administrators. Sign in as one: python -m app.users add NAME --admin makes "
            "such an account, on the server.",
            "ru": "Сводка открыта администраторам. Войдите как один из них: такую учётную запись создаёт на сервере "
            "команда python -m app.users add ИМЯ --admin.",
        },
    ),
    "for_this_machine": (
        403,
        {
            "en": "Without a login the dashboard answers the server's own machine only. Open it there, or through a "
            "tunnel: ssh -L 8000:localhost:8000 SERVER, then http://localhost:8000/dashboard. To open it from "
            "anywhere, set AUTH=password and make an account: python -m app.users add NAME --admin.",
            "ru": "Без входа сводка открывается только на машине сервера. Откройте её там или через туннель: "
            "ssh -L 8000:localhost:8000 СЕРВЕР, затем http://localhost:8000/dashboard. Чтобы открывать её откуда "
            "угодно, задайте AUTH=password и создайте учётную запись: python -m app.users add ИМЯ --admin.",
        },
    ),
    "in_a_container": (
        403,
        {
            "en": "Without a login the dashboard answers the server's own machine only. For a container nobody is "
            "that: start the chat with AUTH=password (docker run -e AUTH=password; with Compose a line in .env), "
            "make an account: docker exec -it chainlit-ollama python -m app.users add NAME --admin (with Compose: "
            "docker compose exec chat python -m app.users add NAME --admin), and sign in.",
            "ru": "Без входа сводка открывается только на машине сервера. Для контейнера ею не считается никто: "
            "запустите чат с AUTH=password (docker run -e AUTH=password; с Compose — строка в .env), создайте учётную "
            "запись: docker exec -it chainlit-ollama python -m app.users add ИМЯ --admin (с Compose: "
            "docker compose exec chat python -m app.users add ИМЯ --admin) и войдите.",
        },
    ),
    "no_login": (
        403,
        {"en": "This server has no login: there is nothing to sign out of.", "ru": "На этом сервере нет входа."},
    ),
    "no_passwords": (
        403,
        {
            "en": "Nobody signs in with a password here. Ask whoever runs this server how to come in.",
            "ru": "Вход по паролю здесь выключен. Спросите у владельца сервера, как войти.",
        },
    ),
    "no_password": (
        403,
        {
            "en": "This account has no password here. Change it where you sign in.",
            "ru": "У этой учётной записи здесь нет пароля. Меняйте его там, через что входите.",
        },
    ),
    "signup_off": (
        403,
        {
            "en": "Accounts are made by whoever runs this server. Ask there for one.",
            "ru": "Учётные записи создаёт владелец сервера. Попросите его.",
        },
    ),
    "no_links": (
        403,
        {
            "en": "Personal links are for servers without a login. Sign in on the other device instead.",
            "ru": "Личные ссылки нужны там, где нет входа. Просто войдите на другом устройстве.",
        },
    ),
    "not_the_owner": (
        403,
        {
            "en": "This browser shows the conversations of another one. Links are made and revoked, and browsers "
            "removed, there.",
            "ru": "Этот браузер показывает беседы другого. Создавать и отзывать ссылки и отключать браузеры можно "
            "только в нём.",
        },
    ),
    "bad_code": (
        404,
        {
            "en": "That link does not work any more. Make a new one where it came from.",
            "ru": "Эта ссылка больше не действует. Создайте новую там же, где и прошлую.",
        },
    ),
    "own_link": (
        409,
        {
            "en": "This browser has those conversations already.",
            "ru": "В этом браузере эти беседы уже есть.",
        },
    ),
    "too_many_links": (
        409,
        {
            "en": "There are {most} links already. Revoke one first.",
            "ru": "Ссылок уже {most}. Сначала отзовите одну из них.",
        },
    ),
    "too_many_devices": (
        409,
        {
            "en": "{most} browsers have joined already. Remove one of them first.",
            "ru": "Подключено уже столько браузеров: {most}. Сначала отключите один из них.",
        },
    ),
    "not_found": (404, {"en": "That is not there any more.", "ru": "Этого здесь больше нет."}),
    "database_away": (
        503,
        {
            "en": "The database is away. Try again in a while.",
            "ru": "База данных не отвечает. Попробуйте чуть позже.",
        },
    ),
    "bad_request": (
        422,
        {
            "en": "That request is not of the form that is wanted here.",
            "ru": "Запрос составлен не так, как здесь нужно.",
        },
    ),
}
# By code of an account's error.
_ACCOUNT_STATUS: Final = {
    "bad_name": 422,
    "weak_password": 422,
    "name_taken": 409,
    "wrong_password": 401,
    "too_many_tries": 429,
}
# Routes whose malformed requests are answered so, too.
PAGE_ROUTES: Final = ("/api/auth/", "/api/me/", LOGIN)


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
    return _answer(request, problem, problem.status, problem.retry_after)


async def account_refusal(request: Request, problem: Exception) -> JSONResponse:
    """FastAPI's handler for `AccountError`."""
    if not isinstance(problem, AccountError):
        raise TypeError("this handler is for accounts")
    retry_after = problem.seconds if isinstance(problem, TooManyTries) else None
    return _answer(request, problem, _ACCOUNT_STATUS[problem.code], retry_after)


def _answer(request: Request, problem: Refused | AccountError, status: int, retry_after: int | None) -> JSONResponse:
    said = problem.sentence(asked_language(request.headers.get("accept-language")))
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else None
    return JSONResponse({"detail": said, "code": problem.code}, status_code=status, headers=headers)
