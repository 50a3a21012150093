"""The operator's page: /dashboard, what it draws, and the library that draws it."""

from __future__ import annotations

import asyncio
import gzip
import json
from functools import cache
from html import escape
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

from app.api.near import is_here
from app.api.refused import Refused, asked_language
from app.dashboard import Dashboard, Period
from app.errors import Language
from app.page.standing import Standing
from app.settings import ROOT
from app.storage.problems import DatabaseAway

PAGE: Final = "/dashboard"
# Its version is in its name, so that browsers keep it. public/vendor/README.md says where it comes from.
PLOTLY: Final = "plotly-basic-4.1.1.min.js"
_VENDOR: Final = ROOT / "public" / "vendor"
_THEME: Final = ROOT / "public" / "theme.json"
_FOR_EVER: Final = "public, max-age=31536000, immutable"
# Plotly adds its rules to an empty style element: the hash is that of nothing.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; "
    "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
_TITLE: Final[dict[Language, str]] = {"en": "Dashboard", "ru": "Сводка"}
_SIGN_IN: Final[dict[Language, str]] = {"en": "Sign in", "ru": "Войти"}
_CHAT: Final[dict[Language, str]] = {"en": "To the chat", "ru": "К чату"}
_SCRIPTS: Final[dict[Language, str]] = {
    "en": "This page draws with JavaScript. Switch it on for this server.",
    "ru": "Эта страница рисует с помощью JavaScript. Включите его для этого сервера.",
}


def dashboard_routes(dashboard: Dashboard, standing: Standing, *, in_a_container: bool = False) -> APIRouter:
    """`GET /dashboard` and `GET /api/dashboard`: for administrators; without a login for who asks from this machine.

    Args:
        dashboard: what is drawn.
        standing: who is an administrator.
        in_a_container: whether this server runs in one, to which nobody comes from this machine.
    """
    routes = APIRouter()

    async def admit(request: Request) -> None:
        """Raises Refused, or DatabaseAway where nobody can tell who asks."""
        if not standing.login:
            if not is_here(request):
                raise Refused("in_a_container" if in_a_container else "for_this_machine")
            return
        identifier: str | None = request.state.identifier
        if identifier is None or not await standing.is_admin(identifier):
            raise Refused("for_administrators")

    @routes.get(PAGE)
    async def page(request: Request) -> Response:
        language = asked_language(request.headers.get("accept-language"))
        try:
            await admit(request)
        except Refused as problem:
            return _refusal(problem, language, login=standing.login)
        except DatabaseAway:
            return _refusal(Refused("database_away"), language, login=False)
        body = f'<main id="dashboard"></main><noscript><p>{_SCRIPTS[language]}</p></noscript>'
        return _page(language, body, f'<script type="module" src="/public{PAGE}/dashboard.js"></script>')

    @routes.get(f"/api{PAGE}")
    async def data(request: Request, period: Period = "day") -> Response:
        await admit(request)
        return JSONResponse(await dashboard.of(period), headers={"Cache-Control": "no-store"})

    @routes.get(f"{PAGE}/theme.css")
    async def theme() -> Response:
        return Response(_theme(_THEME), media_type="text/css", headers={"Cache-Control": "no-cache"})

    @routes.get(f"/public/vendor/{PLOTLY}")
    async def plotly(request: Request) -> Response:
        headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
        if "gzip" not in request.headers.get("accept-encoding", ""):
            return FileResponse(_VENDOR / PLOTLY, media_type="text/javascript", headers=headers)
        packed = await asyncio.to_thread(_packed, _VENDOR / PLOTLY)
        return Response(packed, media_type="text/javascript", headers=headers | {"Content-Encoding": "gzip"})

    return routes


def _refusal(problem: Refused, language: Language, *, login: bool) -> Response:
    links = [("/login", _SIGN_IN[language])] if login else []
    links.append(("/", _CHAT[language]))
    listed = " ".join(f'<a class="link" href="{path}">{words}</a>' for path, words in links)
    said = escape(problem.sentence(language))
    body = f'<main class="refused"><h1>{_TITLE[language]}</h1><p>{said}</p><p>{listed}</p></main>'
    return _page(language, body, status=problem.status)


def _page(language: Language, body: str, head: str = "", status: int = 200) -> Response:
    lines = (
        "<!doctype html>",
        f'<html lang="{language}"><head><meta charset="utf-8"><title>{_TITLE[language]}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="/favicon">',
        f'<link rel="stylesheet" href="{PAGE}/theme.css">',
        f'<link rel="stylesheet" href="/public{PAGE}/dashboard.css">',
        f"{head}</head><body>{body}</body></html>",
    )
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-store", "Vary": "Accept-Language, Cookie"}
    return HTMLResponse("\n".join(lines), status, headers)


@cache
def _theme(file: Path) -> str:
    """The page's colors, which Chainlit writes into its own HTML: as the visitor has chosen there, else the system."""
    variables = json.loads(file.read_text(encoding="utf-8"))["variables"]
    light, dark = (
        "".join(f"{name}:{value};" for name, value in variables[scheme].items()) for scheme in ("light", "dark")
    )
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media (prefers-color-scheme:dark){{:root:not(.light){{color-scheme:dark;{dark}}}}}\n"
        f":root.dark{{color-scheme:dark;{dark}}}\n"
    )


@cache
def _packed(file: Path) -> bytes:
    return gzip.compress(file.read_bytes())
