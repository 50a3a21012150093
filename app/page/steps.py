"""Messages and reasoning as Chainlit's steps, and a stored thread as a conversation again."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from chainlit.step import StepDict
from chainlit.utils import utc_now

from app.engines.base import Role
from app.history import SessionHistory, StoredMessage, Turn
from app.transcript import ANSWER_TYPE, LEFT_OUT, NOTICE, QUESTION, QUESTION_TYPE, REASONING_TYPE, TOKENS, is_answer

_RUN: Final = "run-"


def new_id() -> str:
    """An id for a step, of the kind that Chainlit's page makes."""
    return str(uuid.uuid4())


def answer_step(thread_id: str, step_id: str, author: str) -> StepDict:
    """An empty reply."""
    return _step(thread_id, step_id, ANSWER_TYPE, author)


def reasoning_step(thread_id: str, step_id: str, name: str) -> StepDict:
    """An empty reasoning step, folded."""
    step = _step(thread_id, step_id, REASONING_TYPE, name)
    step["showInput"] = False
    step["defaultOpen"] = False
    return step


def run_of(answer_id: str) -> str:
    """The id of what is around an answer on the page, see `in_run`."""
    return _RUN + answer_id


def in_run(step: StepDict) -> tuple[StepDict, StepDict]:
    """An answer as the page gets it: inside a step of the kind that Chainlit wraps a callback in. Only there it shows
    thumbs and a button to copy. That step is the page's alone and is not stored; a thumb is given to it."""
    run = _step(step["threadId"], run_of(step["id"]), "run", "on_message")
    if "feedback" in step:  # else the page keeps the thumb that it knows
        run["feedback"] = step["feedback"]
    run["createdAt"] = run["start"] = run["end"] = step.get("createdAt") or run["createdAt"]
    return run, StepDict(**step | {"parentId": run["id"]})


def is_notice(step: StepDict) -> bool:
    """Whether a step is the page's own word."""
    return bool(step["metadata"].get(NOTICE))


def answer_in_run(step_id: str) -> str:
    """The id of the answer that is meant where the page names what is around it."""
    return step_id.removeprefix(_RUN)


def with_runs(steps: Iterable[StepDict]) -> list[StepDict]:
    """Stored steps as the page gets them."""
    shown: list[StepDict] = []
    for step in steps:
        metadata = step.get("metadata") or {}
        if is_answer(step["type"], step.get("output") or "", metadata, is_error=bool(step.get("isError"))):
            shown.extend(in_run(step))
        else:
            shown.append(step)
    return shown


def _step(thread_id: str, step_id: str, kind: Any, name: str) -> StepDict:
    now = utc_now()
    return StepDict(
        id=step_id,
        threadId=thread_id,
        parentId=None,
        type=kind,
        name=name,
        input="",
        output="",
        isError=False,
        streaming=False,
        waitForAnswer=False,
        metadata={},
        tags=None,
        language=None,
        createdAt=now,
        start=now,
        end=None,
    )


@dataclass(slots=True)
class TurnSteps:
    """The steps of one turn on the page: the question, and the ids of all that came after it."""

    question_id: str
    replies: list[str] = field(default_factory=list)


def in_turns(steps: Iterable[Mapping[str, Any]]) -> list[Any]:
    """Steps with each question followed by what answers it, in the order in which questions came."""
    turns: dict[str, list[Mapping[str, Any]]] = {"": []}
    newest = ""
    for step in steps:
        if step["type"] == QUESTION_TYPE:
            newest = step["id"]
            turns[newest] = [step]
        else:
            asked = (step.get("metadata") or {}).get(QUESTION)
            turns[asked if asked in turns else newest].append(step)
    return [step for turn in turns.values() for step in turn]


def conversation_of(thread_id: str, steps: Iterable[Mapping[str, Any]]) -> tuple[SessionHistory, list[TurnSteps]]:
    """A stored thread as the model's history and as the page's turns.

    Args:
        thread_id: names the conversation.
        steps: the thread's, oldest first.
    """
    turns: list[Turn] = []
    shown: list[TurnSteps] = []
    left_out = 0
    for step in in_turns(steps):
        metadata = step.get("metadata") or {}
        role: Role = "assistant" if step["type"] == ANSWER_TYPE else "user"
        message = StoredMessage(step["id"], step.get("output") or "", dict(metadata.get(TOKENS) or {}), role)
        if step["type"] == QUESTION_TYPE:
            turns.append(Turn(message))
            shown.append(TurnSteps(message.id))
        elif turns:
            shown[-1].replies.append(message.id)
            if is_answer(step["type"], message.text, metadata, is_error=bool(step.get("isError"))):
                turns[-1].answer = message
                left_out = int(metadata.get(LEFT_OUT) or 0)
    history = SessionHistory(thread_id, turns)
    history.seen_left_out = left_out
    return history, shown
