"""Accounts with passwords, personal links and the browsers that took one, and a log of requests."""

from __future__ import annotations

from alembic import op
from sqlalchemy import Boolean, Column, Float, ForeignKey, Integer, Text

from app.storage.migrations.columns import position, word

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("users", Column("token_version", Integer, nullable=False, server_default="0"))
    op.add_column("threads", Column("moved_from", word(36)))
    op.create_table(
        "accounts",
        Column("user_id", word(36), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        Column("name", word(), nullable=False, unique=True),
        Column("password_hash", Text, nullable=False),
        Column("role", word(16), nullable=False),
        Column("disabled", Boolean, nullable=False),
        Column("created_at", word(40), nullable=False),
        Column("password_changed_at", word(40), nullable=False),
    )
    op.create_table(
        "links",
        Column("id", word(36), primary_key=True),
        Column("user_id", word(36), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        Column("secret_hash", word(64), nullable=False, unique=True),
        Column("created_at", word(40), nullable=False),
        Column("expires_at", word(40), nullable=False),
    )
    op.create_index("links_by_user", "links", ["user_id"])
    op.create_table(
        "devices",
        Column("id", word(36), primary_key=True),
        Column("identifier", word(), nullable=False, unique=True),
        Column("user_id", word(36), ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        Column("name", Text, nullable=False),
        Column("joined_at", word(40), nullable=False),
    )
    op.create_index("devices_by_user", "devices", ["user_id"])
    op.create_table(
        "request_logs",
        position(),
        Column("request_id", word(64), nullable=False),
        Column("timestamp", word(40), nullable=False),
        Column("source", word(40), nullable=False),
        Column("client", word(200)),
        Column("model_name", word()),
        Column("engine", word(40)),
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
        Column("status", word(16), nullable=False),
        Column("error", word(80)),
        Column("input_text", Text),
        Column("output_text", Text),
    )
    op.create_index("request_logs_by_id", "request_logs", ["request_id"])
    op.create_index("request_logs_by_time", "request_logs", ["timestamp"])
