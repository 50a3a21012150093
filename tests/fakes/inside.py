"""The paths under /_fake, by which another process looks into a fake Ollama and changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from tests.fakes.ollama import FakeOllama

_COUNTERS: Final = ("busy", "waiting", "cancelled", "loads", "tokens_read", "served")


def inside_routes(fake: FakeOllama) -> Sequence[Route]:
    """The routes; `tests.fakes.ollama` tells what each takes."""

    async def state(_: Request) -> JSONResponse:
        return JSONResponse({key: getattr(fake, key) for key in _COUNTERS} | {"requests": fake.requests})

    async def models(request: Request) -> JSONResponse:
        fake.set_models((await request.json())["models"])
        return JSONResponse({})

    async def script(request: Request) -> JSONResponse:
        fake.script(*(await request.json())["replies"])
        return JSONResponse({})

    async def speedup(request: Request) -> JSONResponse:
        fake.speedup = (await request.json())["speedup"]
        return JSONResponse({})

    async def faults(request: Request) -> JSONResponse:
        fake.faults = await request.json()
        return JSONResponse({})

    async def away(request: Request) -> JSONResponse:
        return JSONResponse({}, background=BackgroundTask(fake.leave_for, (await request.json())["seconds"]))

    return [
        Route("/_fake/state", state),
        Route("/_fake/models", models, methods=["POST"]),
        Route("/_fake/script", script, methods=["POST"]),
        Route("/_fake/speedup", speedup, methods=["POST"]),
        Route("/_fake/faults", faults, methods=["POST"]),
        Route("/_fake/away", away, methods=["POST"]),
    ]
