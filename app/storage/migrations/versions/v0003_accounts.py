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
        "requests",
        position(),
        Column("id", word(36), nullable=False, unique=True),
        Column("finished_at", word(40), nullable=False),
        Column("source", word(40), nullable=False),
        Column("engine", word(40)),
        Column("model", word()),
        Column("outcome", word(16), nullable=False),
        Column("error", word(80)),
        Column("total_seconds", Float, nullable=False),
        Column("queue_seconds", Float, nullable=False),
        Column("first_token_seconds", Float),
        Column("load_seconds", Float, nullable=False),
        Column("prompt_seconds", Float, nullable=False),
        Column("generation_seconds", Float, nullable=False),
        Column("prompt_tokens", Integer),
        Column("cached_tokens", Integer),
        Column("reply_tokens", Integer, nullable=False),
        Column("left_out", Integer, nullable=False),
    )
    op.create_index("requests_by_time", "requests", ["finished_at"])
