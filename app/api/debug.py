"""What this process works on now: tasks by what they run, replies by engine. Nothing of what people write, no ids."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import SecretStr

from app.api.metrics import refusal
from app.chat import Chat


def debug_routes(chat: Chat, token: SecretStr | None) -> APIRouter:
    """`GET /debug/tasks`: how many asyncio tasks there are, by the name of their coroutine, and how many replies each
    engine serves and has waiting. For those whom `/metrics` answers.

    Args:
        chat: whose engines.
        token: see `metrics_routes`.
    """
    routes = APIRouter()

    @routes.get("/debug/tasks")
    async def tasks(request: Request) -> Response:
        if (no := refusal(request, token, "The tasks")) is not None:
            return no
        engines = {name: {"serving": queue.serving, "waiting": queue.waiting} for name, queue in chat.queues.items()}
        found = running()
        return JSONResponse({"total": found.total(), "tasks": dict(sorted(found.items())), "engines": engines})

    return routes


def running() -> Counter[str]:
    """How many tasks of the running loop there are for each coroutine."""
    return Counter(_name(task.get_coro()) for task in asyncio.all_tasks())


def _name(coroutine: Any) -> str:
    return str(getattr(coroutine, "__qualname__", type(coroutine).__name__))
