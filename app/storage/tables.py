"""The tables, in types that SQLite and PostgreSQL share. Times are UTC with zone, in ISO 8601."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine

from app.storage.texts import storable

# The newest of app/storage/migrations/versions, which make these tables.
REVISION: Final = "0003"

metadata: Final = MetaData()


class Word(TypeDecorator[str]):
    """An id, a name or a time: compared byte by byte in every database, whatever its locale.

    What no database takes is left out of values that are stored and of those that are looked for. The length is what
    SQLite's columns tell; no database checks it.
    """

    impl = String
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        super().__init__(length)
        self._length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return Text(collation="C")
        return Text() if self._length is None else String(self._length)

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        clean: str | None = storable(value)
        return clean


# SQLite numbers rows by a column of exactly this type.
_POSITION: Final = BigInteger().with_variant(Integer(), "sqlite")

users = Table(
    "users",
    metadata,
    Column("id", Word(36), primary_key=True),
    Column("identifier", Word(), nullable=False, unique=True),
    Column("metadata", JSON, nullable=False),
    Column("created_at", Word(40), nullable=False),
    # A token that was signed for another version is good no more: "log out everywhere" adds one.
    Column("token_version", Integer, nullable=False, server_default="0"),
)

# Who signs in with a password.
accounts = Table(
    "accounts",
    metadata,
    Column("user_id", Word(36), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Word(), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("role", Word(16), nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("created_at", Word(40), nullable=False),
    Column("password_changed_at", Word(40), nullable=False),
)

# Personal links, which open a visitor's history in another browser. The secret itself is kept nowhere.
links = Table(
    "links",
    metadata,
    Column("id", Word(36), primary_key=True),
    Column("user_id", Word(36), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("secret_hash", Word(64), nullable=False, unique=True),
    Column("created_at", Word(40), nullable=False),
    Column("expires_at", Word(40), nullable=False),
    Index("links_by_user", "user_id"),
)

# Browsers that show another visitor's history, because they were given its link.
devices = Table(
    "devices",
    metadata,
    Column("id", Word(36), primary_key=True),
    # The name that the browser's own cookie leads to.
    Column("identifier", Word(), nullable=False, unique=True),
    Column("user_id", Word(36), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    # What the browser says it is, for its owner to tell it from others.
    Column("name", Text, nullable=False),
    Column("joined_at", Word(40), nullable=False),
    Index("devices_by_user", "user_id"),
)

threads = Table(
    "threads",
    metadata,
    Column("id", Word(36), primary_key=True),
    Column("user_id", Word(36), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text),
    Column("metadata", JSON, nullable=False),
    Column("tags", JSON(none_as_null=True)),
    Column("created_at", Word(40), nullable=False),
    Column("updated_at", Word(40), nullable=False),
    # Whose it was before it came to this visitor: a reply that was being written then may still be on its way.
    Column("moved_from", Word(36)),
    Index("threads_by_user", "user_id", "updated_at"),
)

# A reply may still be on its way when its thread is deleted: what comes late must not bring the thread back.
deleted_threads = Table(
    "deleted_threads",
    metadata,
    Column("id", Word(36), primary_key=True),
    Column("deleted_at", Word(40), nullable=False),
)

steps = Table(
    "steps",
    metadata,
    # Order in which steps came; their times may be equal.
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("id", Word(36), nullable=False, unique=True),
    Column("thread_id", Word(36), ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    Column("parent_id", Word(36)),
    Column("type", Word(40), nullable=False),
    Column("name", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("output", Text, nullable=False),
    Column("is_error", Boolean, nullable=False),
    Column("metadata", JSON, nullable=False),
    # The rest of what the page needs to draw the step again.
    Column("display", JSON, nullable=False),
    Column("created_at", Word(40)),
    Column("started_at", Word(40)),
    Column("ended_at", Word(40)),
    Index("steps_by_thread", "thread_id", "position"),
)

elements = Table(
    "elements",
    metadata,
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("id", Word(36), nullable=False, unique=True),
    Column("thread_id", Word(36), ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    # No foreign key: an element may come before its step.
    Column("step_id", Word(36)),
    Column("content", JSON, nullable=False),
    Index("elements_by_thread", "thread_id", "position"),
    Index("elements_by_step", "step_id"),
)

feedback = Table(
    "feedback",
    metadata,
    Column("id", Word(36), primary_key=True),
    Column("thread_id", Word(36), ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
    Column("step_id", Word(36), ForeignKey("steps.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("value", Integer, nullable=False),
    Column("comment", Text),
    Column("created_at", Word(40), nullable=False),
    Index("feedback_by_thread", "thread_id"),
)

# One row for each reply. What was said is not written down, and nor is by whom: those columns are empty.
request_logs = Table(
    "request_logs",
    metadata,
    Column("position", _POSITION, primary_key=True, autoincrement=True),
    Column("request_id", Word(64), nullable=False),
    Column("timestamp", Word(40), nullable=False),
    # The page, or which API.
    Column("source", Word(40), nullable=False),
    # Who asked: the name of a key, or a hash.
    Column("client", Word(200)),
    Column("model_name", Word()),
    Column("engine", Word(40)),
    Column("prompt_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("response_tokens", Integer, nullable=False),
    Column("time_to_first_token_ms", Float),
    Column("processing_time_ms", Float, nullable=False),
    Column("queue_ms", Float, nullable=False),
    Column("load_ms", Float, nullable=False),
    Column("prompt_ms", Float, nullable=False),
    Column("generation_ms", Float, nullable=False),
    Column("left_out", Integer, nullable=False),
    Column("status", Word(16), nullable=False),
    # The kind of error, if it failed.
    Column("error", Word(80)),
    # Only where the operator has asked for it.
    Column("input_text", Text),
    Column("output_text", Text),
    # A program may name several alike, and ask for several replies in one.
    Index("request_logs_by_id", "request_id"),
    Index("request_logs_by_time", "timestamp"),
)
