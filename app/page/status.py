"""The quiet line under a reply: what it waits for, what it took, and its buttons. The page draws it, see
public/page/reply-status.js."""

from __future__ import annotations

from typing import Any, Final, Literal

from chainlit.element import CustomElement, ElementDict
from chainlit.step import StepDict

from app.errors import Language
from app.page.steps import answer_step, new_id
from app.page.texts import text
from app.transcript import NOTICE, QUESTION
from app.turn import ChatTurn

Phase = Literal["waiting", "loading", "reading", "writing", "finished", "stopped", "failed"]

_ELEMENT: Final = "ReplyStatus"


class StatusLine:
    """The lines of one turn: under its reply, and under what the page says itself.

    Args:
        turn: the turn.
        thread_id: the conversation.
        language: of the page.
        before: the line under the answer that is gone on with, as it was; None: a new answer.

    Attributes:
        before: the same.
    """

    def __init__(self, turn: ChatTurn, thread_id: str, language: Language, before: ElementDict | None) -> None:
        self._turn = turn
        self._thread_id = thread_id
        self._language = language
        self.before = before
        self._id = before["id"] if before is not None else new_id()

    def element(self, step_id: str, props: dict[str, Any]) -> CustomElement:
        """As Chainlit stores it and sends it to the page."""
        element_id = self._id if step_id == self._turn.answer_id else new_id()
        return _element(self._thread_id, element_id, step_id, props)

    def props(self, phase: Phase, **facts: Any) -> dict[str, Any]:
        """What the page draws in a phase."""
        model = self._turn.model
        return {
            "phase": phase,
            "language": self._language,
            "model": model.name if model else "",
            "engine": model.engine if model else "",
        } | facts

    def final(self, phase: Phase, *, retry: bool, is_reply: bool = True) -> dict[str, Any]:
        """What the page draws at the end.

        Args:
            phase: how it ended.
            retry: the button for another answer is shown.
            is_reply: it stands under the reply, not under a word of the page's own below that.
        """
        turn = self._turn
        props = self.props(
            phase,
            retry=retry,
            go_on=is_reply and turn.can_go_on,
            went_on=is_reply and turn.begun is not None and bool(turn.came),
            notes=self._notes() if is_reply else [],
        )
        if is_reply and turn.metrics:
            props["metrics"] = turn.metrics.as_dict()
        if turn.error is not None:
            props["code"] = turn.error.code
        return props

    def _notes(self) -> list[str]:
        turn = self._turn
        notes = []
        if turn.newly_left_out:
            notes.append(text(self._language, "left_window", count=turn.left_out_messages))
        if turn.finish_reason == "repetition":
            notes.append(text(self._language, "repetition"))
        if turn.finish_reason == "length":
            end = "length" if turn.can_go_on else "context_full" if turn.context_full else "length_only"
            notes.append(text(self._language, end))
        if turn.fallback_from and turn.model:
            names = {"model": turn.fallback_from.name, "fallback": turn.model.name}
            notes.append(text(self._language, "fallback", **names))
        return notes


def ended(turn: ChatTurn) -> Phase:
    """The phase that a turn ended in."""
    return turn.metrics.outcome if turn.metrics else "failed"


def interrupted(thread_id: str, question_id: str, author: str, language: Language) -> tuple[StepDict, CustomElement]:
    """What stands under a message that never got a reply, with the offer to try again."""
    step = answer_step(thread_id, new_id(), author)
    step["output"] = text(language, "interrupted")
    step["metadata"] = {NOTICE: True, QUESTION: question_id}
    props: dict[str, Any] = {
        "phase": "stopped",
        "language": language,
        "model": "",
        "engine": "",
        "retry": True,
        "notes": [],
    }
    return step, _element(thread_id, new_id(), step["id"], props | {"message_id": step["id"]})


def _element(thread_id: str, element_id: str, step_id: str, props: dict[str, Any]) -> CustomElement:
    return CustomElement(
        thread_id=thread_id, id=element_id, name=_ELEMENT, props=props, for_id=step_id, display="inline"
    )
