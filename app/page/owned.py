"""Routes in place of Chainlit's own that do not ask, or ask too late, whose the id is that they are given.

What is another visitor's is answered like what is not there.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Protocol
from uuid import UUID

import chainlit.server as chainlit_server
from chainlit.auth import get_current_user
from chainlit.session import WebsocketSession
from chainlit.types import CallActionRequest, DeleteFeedbackRequest, UpdateFeedbackRequest
from fastapi import APIRouter, Body, Depends, HTTPException, Request, Response

from app.api.refused import Refused
from app.page.steps import answer_in_run

# Longest comment on a reply, in characters.
_LONGEST_COMMENT: Final = 4_000


class Owners(Protocol):
    """Knows whose something is: the visitor's identifier, empty if there is no such thing."""

    async def step_author(self, step_id: str) -> str: ...

    async def feedback_author(self, feedback_id: str) -> str: ...


# The visitor by Chainlit's cookie; without a good one the answer is 401.
Known = Annotated[Any, Depends(get_current_user)]


def owned_routes(store: Owners) -> APIRouter:
    """Chainlit's routes for feedback, actions and the session's cookie.

    Args:
        store: knows whose a message is.
    """
    routes = APIRouter()

    @routes.put("/feedback")
    async def give_feedback(request: Request, update: UpdateFeedbackRequest, visitor: Known) -> Any:
        """Chainlit's would give a thumb to any message, with a comment of any length."""
        if len(update.feedback.comment or "") > _LONGEST_COMMENT:
            raise Refused("comment_too_long", most=_LONGEST_COMMENT)
        update.feedback.forId = answer_in_run(update.feedback.forId)
        _only_for(visitor, await store.step_author(update.feedback.forId))
        return await chainlit_server.update_feedback(request, update, visitor)

    @routes.delete("/feedback")
    async def take_feedback_back(request: Request, payload: DeleteFeedbackRequest, visitor: Known) -> Any:
        """Chainlit's would delete anybody's."""
        _only_for(visitor, await store.feedback_author(payload.feedbackId))
        return await chainlit_server.delete_feedback(request, payload, visitor)

    @routes.post("/project/action")
    async def act(payload: CallActionRequest, visitor: Known) -> Any:
        """Chainlit's would break for a session that is gone."""
        session = WebsocketSession.get_by_id(payload.sessionId)
        _only_for(visitor, session.user.identifier if session and session.user else "")
        return await chainlit_server.call_action(payload, visitor)

    @routes.post("/set-session-cookie")
    async def set_session_cookie(
        request: Request, response: Response, session_id: Annotated[UUID, Body(embed=True)]
    ) -> dict[str, str]:
        """For balancers that send a page to the same replica again. Chainlit's would take any value."""
        response.set_cookie(
            "X-Chainlit-Session-id",
            str(session_id),
            httponly=True,
            samesite="lax",
            secure=request.url.scheme == "https",
        )
        return {"message": "Session cookie set"}

    return routes


def _only_for(visitor: Any, owner: str) -> None:
    if visitor is None or visitor.identifier != owner:
        raise HTTPException(404, "Not found")
