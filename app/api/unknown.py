"""Errors that no route of an API words itself: unknown paths, wrong methods, requests that cannot be read.

Chainlit would answer any unknown path with its page, and FastAPI would use its own words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from http import HTTPStatus
from itertools import takewhile
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from app.api.openai_problems import refusal
from app.api.problems import Problem
from app.api.refused import PAGE_ROUTES, Refused
from app.api.refused import refusal as in_the_pages_words
from app.paths import is_alias

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
_CODES: Final = {
    401: "invalid_api_key",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    429: "rate_limit_exceeded",
}
# Where a field stands begins with the part of the request, and has the types that were tried in between.
_PARTS: Final = ("body", "query", "path", "header")
_FIELD: Final = re.compile(r"(?!(str|int|float|bool)$)[a-z_]+")
# No body at all, one that is not said to be JSON, or JSON of another kind: what pydantic says of it helps nobody.
_NO_OBJECT: Final = ("missing", "model_attributes_type")
_WANTED: Final = "The body has to be a JSON object, sent with the header Content-Type: application/json. See /docs."

Wording = Callable[[Problem], Response]


def in_our_form(problem: Problem) -> Response:
    """The error as the rest of this server words it."""
    return JSONResponse({"detail": problem.message, "code": problem.code}, problem.status, problem.headers)


# Which error form is used below which path.
FORMS: Final[dict[str, Wording]] = {"/v1": refusal, "/api": in_our_form}


def is_api(path: str) -> bool:
    """Whether a path belongs to an API, known there or not."""
    return _form(path) is not None


def form_of(path: str) -> Wording:
    """How an error of a path is worded."""
    return _form(path) or in_our_form


def _form(path: str) -> Wording | None:
    # A base URL that ends with a slash has a client ask for //v1/models.
    path = f"/{path.lstrip('/')}"
    if is_alias(path):
        return in_our_form
    return next((form for root, form in FORMS.items() if path == root or path.startswith(f"{root}/")), None)


class UnknownPath(BaseRoute):
    """The last of the routes for the paths of the APIs: 404, or 405 where another method would be answered.

    Args:
        known: the routes.
    """

    def __init__(self, known: Sequence[BaseRoute]) -> None:
        self._known = known

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See BaseRoute."""
        mine = scope["type"] == "http" and is_api(scope["path"])
        return (Match.FULL, {"endpoint": self}) if mine else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See BaseRoute."""
        path, form = scope["path"], form_of(scope["path"])
        allowed = [method for method in _METHODS if self._answers({**scope, "method": method})]
        if allowed:
            answer = form(Problem(405, "method_not_allowed", f"{path} takes {', '.join(allowed)}."))
            answer.headers["Allow"] = ", ".join(allowed)
        else:
            answer = form(Problem(404, "not_found", f"Not found: {path}"))
        await answer(scope, receive, send)

    def _answers(self, scope: Scope) -> bool:
        return any(route.matches(scope)[0] is Match.FULL for route in self._known)


async def broken(request: Request, problem: Exception) -> Response:
    """Starlette's handler for errors that nobody has foreseen."""
    form = form_of(request.url.path)
    return form(Problem(500, "internal_error", "Something broke in this server; its log has more."))


def add_error_forms(app: FastAPI) -> None:
    """To be called when all routes of the APIs are there, and before Chainlit is mounted."""

    async def unreadable(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, RequestValidationError)
        if request.url.path.startswith(PAGE_ROUTES):
            return await in_the_pages_words(request, Refused("bad_request"))
        form = form_of(request.url.path)
        return form(_invalid(problem.errors()))

    async def refused(request: Request, problem: Exception) -> Response:
        assert isinstance(problem, HTTPException)
        form = form_of(request.url.path)
        code = _CODES.get(problem.status_code, HTTPStatus(problem.status_code).phrase.lower().replace(" ", "_"))
        answer = form(Problem(problem.status_code, code, str(problem.detail)))
        for name, value in (problem.headers or {}).items():
            answer.headers[name] = value
        return answer

    app.add_exception_handler(RequestValidationError, unreadable)
    app.add_exception_handler(HTTPException, refused)
    app.router.routes.append(UnknownPath(list(app.router.routes)))


def _invalid(errors: Sequence[Any]) -> Problem:
    """What is wrong with a request: of several things the first."""
    first = errors[0]
    if first["loc"] == ("body",) and first["type"] in _NO_OBJECT:
        return Problem(422, "invalid_value", _WANTED)
    if first["type"] == "json_invalid":
        return Problem(400, "invalid_json", f"The body is not JSON: {first.get('ctx', {}).get('error', '')}.")
    place = _place(first["loc"])
    # Where a field may be one of several things, each says why it is not that: the one that got furthest was meant.
    ways = [(_named(error["loc"]), error["msg"]) for error in errors if _place(error["loc"]) == place]
    named = max((where for where, _ in ways), key=len)
    said = "; or: ".join(dict.fromkeys(message for where, message in ways if where == named))
    message = f"`{_worded(named)}`: {said}" if named else f"The body is not what it should be: {said}"
    return Problem(422, "invalid_value", message, _worded(named) or None)


def _place(loc: Sequence[int | str]) -> list[int | str]:
    """Where an error stands, up to the first of the types that were tried."""
    return list(takewhile(_is_named, (part for part in loc if part not in _PARTS)))


def _named(loc: Sequence[int | str]) -> list[int | str]:
    """Where an error stands, without the types that were tried."""
    return [part for part in loc if part not in _PARTS and _is_named(part)]


def _is_named(part: int | str) -> bool:
    return isinstance(part, int) or _FIELD.fullmatch(part) is not None


def _worded(place: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
