"""The API's own pages: /openapi.json, Swagger UI at /docs, ReDoc at /redoc. All that they load comes from here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import fastapi_offline
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.responses import FileResponse

from app.api.openai_fields import IGNORED
from app.settings import ROOT

DESCRIPTION: Final = f"""OpenAI's API under `/v1`, for any client that takes a base URL.

Streams tell how they go on while nothing is written yet, in comments that clients pass over (`: waiting, 2 before
you, about 40 s`). The status of a stream is held back for two seconds, so that a refusal has its own; later an error is
an event `data: {{"error": ...}}`, after which there is neither a `finish_reason` nor `[DONE]`.

A conversation that is too long for its model is read from a later message on; the header
`X-Context-Messages-Left-Out` says how many messages it did not read. With `"context": "strict"` it is refused instead
(400, `context_length_exceeded`). `max_tokens` may be any number: a reply ends at the latest where the context does.
`finish_reason` is `length` also for a reply that was ended for repeating itself.

**Ignored** are fields that change nothing here: {", ".join(f"`{name}`" for name in sorted(IGNORED))}, a message's
`name`, and the `strict` of a function or of a schema: a reply keeps to its schema in any case, the arguments of a
function as far as the engine sees to it. Any other field that is not described here is **refused** with status 400 and
its name in `param`, unless its value says what happens anyway (`n: 1`, `logprobs: false`, `logit_bias: {{}}`). What the
model's engine cannot honour is refused in the same way.

The **native API** is under `/api`, and at the root as well (`POST /chat`, `/forward`, `/forward_batch`, `GET /models`,
`/stats`, `/metadata`). A request that names no model is answered by the default one. Fields that are not described here
are refused with status 400 and their name. A stream's pieces are events `{{"request_id", "delta", "done": false}}`; the
last event has all fields of the whole answer and `"done": true`, or, where the reply broke off, `"status": "error"`.
Errors are `{{"detail": sentence, "code": word}}`, in Russian where `Accept-Language` asks for it.
"""
_ASSETS: Final = "/docs/assets"
_SCHEMA: Final = "/openapi.json"
_ICON: Final = "/docs/favicon.svg"
# ReDoc would show a picture of its maker's server.
_POLICY: Final = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; worker-src 'self' blob:; form-action 'none'; base-uri 'none'; object-src 'none'"
)


def add_docs(app: FastAPI) -> None:
    """The pages, for an app that serves its document at `_SCHEMA`."""
    # The scripts lie in that package as Swagger UI and ReDoc publish them.
    assets = Path(fastapi_offline.__file__).parent / "static"
    app.mount(_ASSETS, StaticFiles(directory=assets))

    @app.get(_SCHEMA, include_in_schema=False)
    async def document() -> dict[str, Any]:
        return app.openapi()

    @app.get("/docs", include_in_schema=False)
    async def swagger() -> Response:
        page = get_swagger_ui_html(
            openapi_url=_SCHEMA,
            title=app.title,
            swagger_js_url=f"{_ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{_ASSETS}/swagger-ui.css",
            swagger_favicon_url=_ICON,
            oauth2_redirect_url=None,
        )
        return _guarded(page)

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> Response:
        page = get_redoc_html(
            openapi_url=_SCHEMA,
            title=app.title,
            redoc_js_url=f"{_ASSETS}/redoc.standalone.js",
            redoc_favicon_url=_ICON,
            with_google_fonts=False,
        )
        return _guarded(page)

    @app.get(_ICON, include_in_schema=False)
    async def icon() -> Response:
        return FileResponse(ROOT / "public" / "favicon.svg")


def _guarded(page: Response) -> Response:
    page.headers["Content-Security-Policy"] = _POLICY
    return page
