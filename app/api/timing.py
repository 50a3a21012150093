"""What the replies of a visitor's own conversation took, for the chart in the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from app.api.refused import Refused
from app.api.signed_in import SignedIn
from app.storage.database import Database
from app.storage.records import Step
from app.storage.threads import Threads
from app.transcript import ANSWER_TYPE, METRICS, MODEL

# Replies that are drawn, the newest: more points than that are no picture.
MOST: Final = 500
_LARGEST: Final = 10**9


def timing_routes(database: Database, *, history: bool) -> APIRouter:
    """`GET /api/me/conversations/{id}/timing`: the replies that have a time, the oldest first.

    Args:
        database: has the conversations.
        history: whether this server keeps conversations.
    """
    threads = Threads(database)
    routes = APIRouter()

    @routes.get("/api/me/conversations/{thread_id}/timing")
    async def timing(visitor: SignedIn, thread_id: str) -> JSONResponse:
        if not history:
            raise Refused("history_off")
        conversation = await threads.get(thread_id)
        if conversation is None or conversation.thread.user_id != visitor.id:
            raise Refused("not_found")
        return JSONResponse({"replies": times_of(conversation.steps)}, headers={"Cache-Control": "no-store"})

    return routes


def times_of(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """Of each reply with a time its number, model and times; nothing of what was said.

    Args:
        steps: of a conversation. What stands in their metadata may be of another program's making: it is checked.
    """
    found = []
    answers = [step for step in steps if step.type == ANSWER_TYPE and isinstance(step.metadata.get(METRICS), dict)]
    for number, step in enumerate(answers, 1):
        metrics = step.metadata[METRICS]
        total = _number(metrics.get("total_seconds"))
        if total is None:
            continue
        model = step.metadata.get(MODEL)
        found.append(
            {
                "number": number,
                "model": model if isinstance(model, str) else None,
                "total_seconds": total,
                "first_token_seconds": _number(metrics.get("first_token_seconds")),
                "tokens_per_second": _number(metrics.get("tokens_per_second")),
            }
        )
    return found[-MOST:]


def _number(value: object) -> float | None:
    """A number that can be drawn; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return round(float(value), 3) if 0 <= value < _LARGEST else None
