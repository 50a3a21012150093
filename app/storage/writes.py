"""What is written of a conversation, as values: they may wait for a database that is away."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from app.storage.records import Conversation, Element, Json, Step, Thread
from app.storage.texts import now
from app.storage.threads import Threads, thread_name
from app.storage.visitors import Visitors


@dataclass(frozen=True, slots=True)
class Writer:
    """Whose page it is. `user_id` is None if the database was away when the page was opened."""

    identifier: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class SaveThread:
    """Make a thread, or change it; see `Threads.save`."""

    thread_id: str
    make: bool
    name: str | None = None
    metadata: Json | None = None
    tags: list[str] | None = None

    @property
    def subject(self) -> tuple[str, str]:
        return "thread", self.thread_id

    def after(self, earlier: SaveThread) -> SaveThread:
        """Both as one."""
        merged = None if self.metadata is earlier.metadata is None else (earlier.metadata or {}) | (self.metadata or {})
        return SaveThread(
            self.thread_id,
            self.make or earlier.make,
            self.name if self.name is not None else earlier.name,
            merged,
            self.tags if self.tags is not None else earlier.tags,
        )

    async def make_it(self, threads: Threads, visitors: Visitors, user_id: str) -> None:
        await threads.save(
            self.thread_id, user_id, make=self.make, name=self.name, metadata=self.metadata, tags=self.tags
        )


@dataclass(frozen=True, slots=True)
class SaveStep:
    """Store a step, or its new state; and with it what is shown with it."""

    step: Step
    element: Element | None = None

    @property
    def thread_id(self) -> str:
        return self.step.thread_id

    @property
    def subject(self) -> tuple[str, str]:
        return "step", self.step.id

    def after(self, earlier: SaveStep) -> SaveStep:
        """The later state, as the database would merge it with the earlier one."""
        old = earlier.step
        created_at = old.created_at or self.step.created_at
        step = replace(self.step, metadata=old.metadata | self.step.metadata, created_at=created_at)
        return SaveStep(step, self.element or earlier.element)

    async def make_it(self, threads: Threads, visitors: Visitors, user_id: str) -> None:
        await threads.save_step(self.step, user_id, self.element)


@dataclass(frozen=True, slots=True)
class SaveStepMetadata:
    """Merge into a step's metadata."""

    thread_id: str
    step_id: str
    metadata: Json

    @property
    def subject(self) -> tuple[str, str]:
        return "step", self.step_id

    def after(self, earlier: SaveStepMetadata) -> SaveStepMetadata:
        """Both as one."""
        return replace(self, metadata=earlier.metadata | self.metadata)

    async def make_it(self, threads: Threads, visitors: Visitors, user_id: str) -> None:
        await threads.save_step_metadata(self.step_id, self.metadata, user_id)


@dataclass(frozen=True, slots=True)
class DeleteStep:
    """Delete a step with what belongs to it."""

    thread_id: str
    step_id: str

    @property
    def subject(self) -> tuple[str, str]:
        return "step", self.step_id

    def after(self, earlier: DeleteStep) -> DeleteStep:
        """Once is enough."""
        return self

    async def make_it(self, threads: Threads, visitors: Visitors, user_id: str) -> None:
        await threads.delete_step(self.step_id, user_id)


@dataclass(frozen=True, slots=True)
class SaveElement:
    """Store an element, or its new state."""

    element: Element

    @property
    def thread_id(self) -> str:
        return self.element.thread_id

    @property
    def subject(self) -> tuple[str, str]:
        return "element", self.element.id

    def after(self, earlier: SaveElement) -> SaveElement:
        """The later state."""
        return self

    async def make_it(self, threads: Threads, visitors: Visitors, user_id: str) -> None:
        await threads.save_element(self.element, user_id)


@dataclass(frozen=True, slots=True)
class SavePreferences:
    """Keep what a visitor has set. It belongs to no thread."""

    identifier: str
    preferences: Json
    thread_id: str = ""

    @property
    def subject(self) -> tuple[str, str]:
        return "preferences", self.identifier

    def after(self, earlier: SavePreferences) -> SavePreferences:
        """The later ones."""
        return self

    async def make_it(self, threads: Threads, visitors: Visitors, user_id: str) -> None:
        await visitors.save_preferences(self.identifier, self.preferences)


Write = SaveThread | SaveStep | SaveStepMetadata | DeleteStep | SaveElement | SavePreferences


def in_one(earlier: Write, later: Write) -> Write | None:
    """One write that does what two do that follow each other; None: there is none."""
    # One by one, for the type checker: `after` takes a write of its own kind.
    match earlier, later:
        case SaveThread(), SaveThread():
            return later.after(earlier)
        case SaveStep(_, shown), SaveStep(_, other) if shown is None or other is None or shown.id == other.id:
            return later.after(earlier)
        case SaveStepMetadata(), SaveStepMetadata():
            return later.after(earlier)
        case DeleteStep(), DeleteStep():
            return later.after(earlier)
        case SaveElement(), SaveElement():
            return later.after(earlier)
        case SavePreferences(), SavePreferences():
            return later.after(earlier)
    return None


def makes_thread(write: Write) -> bool:
    """Whether it makes its conversation, if there is none; others only change one."""
    return isinstance(write, SaveStep) or (isinstance(write, SaveThread) and write.make)


def size_of(value: Any) -> int:
    """How much memory a write's texts take, roughly, in bytes."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(size_of(key) + size_of(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return sum(map(size_of, value))
    return 8


def with_writes(conversation: Conversation | None, writes: list[Write], writer: Writer) -> Conversation | None:
    """A conversation as it will be when these writes are made.

    Args:
        conversation: as it is stored; None: it is not.
        writes: those that wait for it, in their order.
        writer: whose they are.
    """
    if not writes:
        return conversation
    if conversation is None:
        if not any(map(makes_thread, writes)):
            return None
        thread = Thread(writes[0].thread_id, writer.user_id or "", writer.identifier, None, {}, [], now(), now())
        conversation = Conversation(thread, (), (), {})
    thread = conversation.thread
    steps = {step.id: step for step in conversation.steps}
    elements = {element.id: element for element in conversation.elements}
    for write in writes:
        match write:
            case SaveStep(step, shown):
                known = steps.get(step.id)
                steps[step.id] = SaveStep(step).after(SaveStep(known)).step if known else step
                if shown is not None:
                    elements[shown.id] = shown
            case SaveStepMetadata(_, step_id, metadata) if step_id in steps:
                steps[step_id] = replace(steps[step_id], metadata=steps[step_id].metadata | metadata)
            case DeleteStep(_, step_id):
                steps.pop(step_id, None)
                elements = {key: element for key, element in elements.items() if element.step_id != step_id}
            case SaveElement(element):
                elements[element.id] = element
            case SaveThread():
                metadata = thread.metadata | (write.metadata or {})
                name = thread.name if write.name is None else thread_name(write.name)
                thread = replace(thread, name=name, metadata=metadata, tags=write.tags or thread.tags)
    return Conversation(thread, tuple(steps.values()), tuple(elements.values()), conversation.thumbs)
