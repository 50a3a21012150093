"""Who may let a model work."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.account_errors import TooManyTries
from app.api.problems import Problem, language_of
from app.api.unknown import form_of
from app.errors import Language
from app.keys import Keys
from app.page.tokens import bearer_of
from app.paths import is_for_programs, wants_token
from app.tries import Tries, place_of

_SIGN_IN: Final[dict[Language, str]] = {
    "en": "Sign in: POST /api/auth/login gives a token. Send it with each request: Authorization: Bearer TOKEN",
    "ru": "Войдите: POST /api/auth/login выдаёт токен. Передавайте его с каждым запросом: Authorization: Bearer TOKEN",
}
_OR_A_KEY: Final[dict[Language, str]] = {
    "en": " A key of this server does as well.",
    "ru": " Подойдёт и ключ этого сервера.",
}
_SEND_KEY: Final[dict[Language, str]] = {
    "en": "A key is wanted. Send it with each request: Authorization: Bearer KEY. "
    "Whoever runs this server has one for you.",
    "ru": "Нужен ключ. Передавайте его с каждым запросом: Authorization: Bearer KEY. Его даст владелец сервера.",
}
_UNKNOWN: Final[dict[Language, str]] = {
    "en": "That key is not known here. Check it, or ask whoever runs this server for another.",
    "ru": "Такого ключа здесь нет. Проверьте его или попросите другой у владельца сервера.",
}
# The name of the limit; no account can be called so.
_GUESSING: Final = "key:"
_MOST_KNOWN: Final = 10_000

# Tells the OpenAPI document, and so /docs, that a token is wanted; who has none has been answered before.
BEARER: Final = HTTPBearer(
    auto_error=False, description="A key of this server, or the token that `POST /api/auth/login` gives."
)


class Guard:
    """ASGI middleware that answers 401 where a key or a token is wanted and there is none; nothing of the request is
    read. Inside of it `scope["state"]["key"]` is the name of the key that a request came with.

    A dependency of the routes would come too late: FastAPI reads and checks the body first. For a server with keys or
    with a login, inside of `TokenCheck`, which tells who has signed in.

    Args:
        keys: of programs.
        login: whether who has signed in may come in as well.
        tries: how often an address may send what is no key. After that only those keys are taken from there that were
            taken before, so that neither guessing goes on nor a neighbour is kept out.
    """

    def __init__(self, app: ASGIApp, keys: Keys, *, login: bool, tries: Tries) -> None:
        self._app = app
        self._keys = keys
        self._login = login
        self._tries = tries
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_for_programs(scope["path"]):
            await self._app(scope, receive, send)
            return
        state, headers = scope["state"], Headers(scope=scope)
        sent = [key for key in (headers.get("x-api-key"), bearer_of(scope["headers"])) if key]
        name = next(filter(None, map(self._keys.name_of, sent)), None)
        if name is None and (
            (self._login and state["identifier"] is not None) or not (sent or wants_token(scope["path"]))
        ):
            await self._app(scope, receive, send)
            return
        language = language_of(headers.get("accept-language"))
        try:
            if len(self._keys) and sent:
                await self._count(name, scope["client"][0] if scope.get("client") else None)
        except TooManyTries as problem:
            words = problem.sentence(language)
            answer = form_of(scope["path"])(Problem(429, problem.code, words, retry_after=problem.seconds))
            await answer(scope, receive, send)
            return
        if name is None:
            answer = form_of(scope["path"])(Problem(401, "invalid_api_key", self._how(language, wrong=bool(sent))))
            answer.headers["WWW-Authenticate"] = "Bearer"
            await answer(scope, receive, send)
            return
        await self._app({**scope, "state": {**state, "key": name}}, receive, send)

    async def _count(self, name: str | None, address: str | None) -> None:
        """Count what is no key; `name`: of the key.

        Raises:
            TooManyTries: whether it is one is not told now.
        """
        if name is None:
            await self._tries.count_action(address, _GUESSING)
            return
        known = (name, place_of(address))
        if known not in self._known:
            await self._tries.check_action(address, _GUESSING)
            self._known[known] = None
            if len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)

    def _how(self, language: Language, *, wrong: bool) -> str:
        if not self._login:
            return (_UNKNOWN if wrong else _SEND_KEY)[language]
        return _SIGN_IN[language] + (_OR_A_KEY[language] if len(self._keys) else "")
