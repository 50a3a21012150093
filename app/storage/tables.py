"""The tables, in types that SQLite and PostgreSQL share. Times are UTC with zone, in ISO 8601."""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, MetaData, String, Table, Text

metadata: Final = MetaData()

# One row. Migrations read it to know which tables they find.
SCHEMA_VERSION: Final = 1
schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

users = Table(
    "users",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("identifier", Text, nullable=False, unique=True),
    Column("metadata", JSON, nullable=False),
    Column("created_at", String(40), nullable=False),
)

threads = Table(
    "threads",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("user_id", String(36), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text),
    Column("metadata", JSON, nullable=False),
    Column("tags", JSON),
    Column("created_at", String(40), nullable=False),
    Column("updated_at", String(40), nullable=False),
    Index("threads_by_user", "user_id", "updated_at"),
)

# A reply may still be on its way when its thread is deleted: what comes late must not bring the thread back.
deleted_threads = Table(
    "deleted_threads",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("deleted_at", String(40), nullable=False),
)

steps = Table(
    "steps",
    metadata,
    # Order in which steps came; their times may be equal.
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("thread_id", String(36), ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    Column("parent_id", String(36)),
    Column("type", String(40), nullable=False),
    Column("name", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("is_error", Boolean, nullable=False),
    Column("metadata", JSON, nullable=False),
    # The rest of what the page needs to draw the step again.
    Column("display", JSON, nullable=False),
    Column("created_at", String(40)),
    Column("started_at", String(40)),
    Column("ended_at", String(40)),
    Index("steps_by_thread", "thread_id", "position"),
)

elements = Table(
    "elements",
    metadata,
    Column("position", Integer, primary_key=True, autoincrement=True),
    Column("id", String(36), nullable=False, unique=True),
    Column("thread_id", String(36), ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    # No foreign key: an element may come before its step.
    Column("step_id", String(36)),
    Column("content", JSON, nullable=False),
    Index("elements_by_thread", "thread_id", "position"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("thread_id", String(36), ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    Column("step_id", String(36), ForeignKey("steps.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("value", Integer, nullable=False),
    Column("comment", Text),
    Column("created_at", String(40), nullable=False),
    Index("feedback_by_thread", "thread_id"),
)
