"""Between Chainlit's dictionaries and what the storage holds."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final, cast

from chainlit.element import ElementDict
from chainlit.step import StepDict
from chainlit.types import FeedbackDict, ThreadDict

from app.storage.records import Conversation, Element, Step, Thread, Thumb

# What a step's `display` holds, by Chainlit's names.
_DISPLAY: Final = ("language", "showInput", "defaultOpen", "autoCollapse", "tags", "waitForAnswer", "command", "modes")


def step_of(step: Mapping[str, Any]) -> Step:
    """A step as Chainlit sends it, as it is now; what it leaves out is as a new step has it.

    Raises:
        KeyError: it has no id or no thread.
    """
    return Step(
        id=step["id"],
        thread_id=step["threadId"],
        parent_id=step.get("parentId"),
        type=step.get("type") or "undefined",
        name=step.get("name") or "",
        input=str(step.get("input") or ""),
        output=str(step.get("output") or ""),
        is_error=bool(step.get("isError")),
        metadata=deepcopy(dict(step.get("metadata") or {})),
        display={name: deepcopy(step[name]) for name in _DISPLAY if step.get(name) is not None},
        created_at=step.get("createdAt"),
        started_at=step.get("start"),
        ended_at=step.get("end"),
    )


def element_of(element: ElementDict) -> Element:
    """An element as Chainlit sends it, as it is now. A file's bytes are not part of it.

    Raises:
        PermissionError: it names no thread, so it is nobody's.
    """
    thread_id = element.get("threadId")
    if not thread_id:
        raise PermissionError("the element belongs to no conversation")
    return Element(element["id"], thread_id, element.get("forId"), deepcopy(dict(element)))


def thread_dict(thread: Thread) -> ThreadDict:
    """A thread for the list at the side, which sorts and groups by createdAt: so that is when it was used last."""
    return ThreadDict(
        id=thread.id,
        createdAt=thread.updated_at,
        name=thread.name,
        userId=thread.user_id,
        userIdentifier=thread.visitor,
        tags=thread.tags,
        metadata=thread.metadata,
        steps=[],
        elements=[],
    )


def conversation_dict(conversation: Conversation) -> ThreadDict:
    """A thread with all that is needed to open it again."""
    thread = thread_dict(conversation.thread)
    thread["steps"] = [_step_dict(step, conversation.thumbs.get(step.id)) for step in conversation.steps]
    thread["elements"] = [element_dict(element) for element in conversation.elements]
    return thread


def element_dict(element: Element) -> ElementDict:
    """An element as Chainlit sent it."""
    return cast(ElementDict, dict(element.content))


def _step_dict(step: Step, thumb: Thumb | None) -> StepDict:
    values = step.display | {
        "id": step.id,
        "threadId": step.thread_id,
        "parentId": step.parent_id,
        "type": step.type,
        "name": step.name,
        "input": step.input,
        "output": step.output,
        "isError": step.is_error,
        "metadata": step.metadata,
        "createdAt": step.created_at,
        "start": step.started_at,
        "end": step.ended_at,
        "streaming": False,
        "feedback": _feedback_dict(thumb) if thumb else None,
    }
    return cast(StepDict, values)


def _feedback_dict(thumb: Thumb) -> FeedbackDict:
    return cast(FeedbackDict, {"id": thumb.id, "forId": thumb.step_id, "value": thumb.value, "comment": thumb.comment})
