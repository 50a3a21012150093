"""What probes are told, as the API's document has it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Age = Field(description="Seconds since that was found out; null: it never was.")


class ProcessHealth(BaseModel):
    """This server itself."""

    version: str
    pid: int
    uptime_seconds: float
    memory_bytes: int | None = Field(description="Resident memory; null where the system does not tell.")
    replies: int = Field(description="Replies that engines work on now.")
    waiting: int = Field(description="Replies that wait for an engine.")


class EngineHealth(BaseModel):
    """An engine that is set up."""

    name: str
    label: str
    status: Literal["up", "away", "unknown"] = Field(description="`unknown`: it was not asked yet.")
    url: str | None = Field(
        description="Where it is asked, without a password, for those who ask from a loopback or private address; "
        "null: it is a part of this server, or asked about from elsewhere."
    )
    models: int = Field(description="How many it has; 0 while it is away.")
    error: str | None = Field(description="Why it is away; from elsewhere the kind of error alone.")
    age_seconds: float | None = Age


class DatabaseHealth(BaseModel):
    """Where conversations are kept. What cannot be written waits in memory meanwhile."""

    status: Literal["ok", "away", "off"] = Field(description="`off`: nothing is kept at all.")
    state: Literal["ok", "away", "off"] = Field(description="The same.")
    since: str | None = Field(description="Since when it is away.")
    waiting: int = Field(description="Writes that wait for it.")
    lost: int = Field(description="Writes that were lost since the start.")
    age_seconds: float | None = Age


class DefaultModelHealth(BaseModel):
    """The model that answers who has picked none."""

    id: str | None
    status: Literal["loaded", "loading", "unloaded", "missing"] = Field(
        description="`unloaded`: it is loaded on first use, or could not be. `missing`: there is none, or its engine "
        "is away."
    )
    reason: str = Field(description="Which model answers and why, in words.")
    age_seconds: float | None = Age


class Health(BaseModel):
    """How everything is."""

    status: Literal["ok", "degraded"] = Field(
        description="`degraded`: something that should be there is not, see below. An Ollama that was never there at "
        "its default address is not missed where another model answers."
    )
    process: ProcessHealth
    engines: list[EngineHealth]
    database: DatabaseHealth
    default_model: DefaultModelHealth


class Readiness(BaseModel):
    """Whether the default model answers at once."""

    status: Literal["ready", "not ready"]
    model: str | None
    reason: str
