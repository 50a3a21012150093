"""One completion of an engine, read as a test wants to see it."""

from __future__ import annotations

from app.engines.base import CompletionRequest, Delta, DeltaKind, Done, Engine, EngineEvent


async def events_of(engine: Engine, asked: CompletionRequest) -> list[EngineEvent]:
    """All that it tells, to its end."""
    return [event async for event in engine.complete(asked)]


def text_of(events: list[EngineEvent], kind: DeltaKind = "answer") -> str:
    """The text that came, of one kind."""
    return "".join(event.text for event in events if isinstance(event, Delta) and event.kind == kind)


def end_of(events: list[EngineEvent]) -> Done:
    """Its last event, which has to be the end."""
    assert isinstance(events[-1], Done)
    return events[-1]
