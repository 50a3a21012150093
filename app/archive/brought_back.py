"""A conversation from a file as one of its new visitor's: with ids of its own, so that it takes nobody's place."""

from __future__ import annotations

from app.archive.conversation_file import ConversationFile
from app.archive.parts import ElementPart, StepPart
from app.storage.records import ORIGIN, Conversation, Element, Step, Thread, Thumb, Visitor
from app.storage.texts import new_id
from app.storage.threads import thread_name


def brought_back(file: ConversationFile, visitor: Visitor) -> Conversation:
    """The conversation, with times and order as they were; what referred to each other does so still."""
    thread = Thread(
        new_id(),
        visitor.id,
        visitor.identifier,
        None if file.thread.name is None else thread_name(file.thread.name),
        file.thread.metadata | {ORIGIN: file.thread.id},
        file.thread.tags,
        file.thread.created_at,
        file.thread.updated_at,
    )
    ids: dict[str, str] = {}
    steps = []
    for step in file.steps:
        # A parent that comes later, or is the step itself, would be looked for in circles.
        parent = ids.get(step.parent_id or "")
        ids[step.id] = new_id()
        steps.append(_step(step, thread.id, ids[step.id], parent))
    elements = tuple(_element(element, thread.id, ids) for element in file.elements)
    thumbs = [
        Thumb(new_id(), ids[thumb.step_id], thumb.value, thumb.comment, thumb.created_at) for thumb in file.thumbs
    ]
    return Conversation(thread, tuple(steps), elements, {thumb.step_id: thumb for thumb in thumbs})


def _step(step: StepPart, thread_id: str, step_id: str, parent_id: str | None) -> Step:
    values = step.model_dump(exclude_unset=True)
    return Step(**values | {"id": step_id, "thread_id": thread_id, "parent_id": parent_id})


def _element(element: ElementPart, thread_id: str, ids: dict[str, str]) -> Element:
    own = new_id()
    content = element.content.model_dump(exclude_unset=True) | {"id": own}
    if "threadId" in content:
        content["threadId"] = thread_id
    if "forId" in content:
        content["forId"] = ids.get(content["forId"] or "")
    if "message_id" in content["props"]:
        content["props"]["message_id"] = ids.get(str(content["props"]["message_id"]), "")
    return Element(own, thread_id, ids.get(element.step_id or ""), content)
