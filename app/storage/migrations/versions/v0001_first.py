"""The tables as they were before there were migrations. SQLite databases of that time are taken to be here."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.storage.migrations.columns import position, word

revision = "0001"
down_revision = None


def upgrade() -> None:
    version = op.create_table("schema_version", sa.Column("version", sa.Integer, primary_key=True))
    op.bulk_insert(version, [{"version": 1}])
    op.create_table(
        "users",
        sa.Column("id", word(36), primary_key=True),
        sa.Column("identifier", word(), nullable=False, unique=True),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("created_at", word(40), nullable=False),
    )
    op.create_table(
        "threads",
        sa.Column("id", word(36), primary_key=True),
        sa.Column("user_id", word(36), sa.ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("tags", sa.JSON),
        sa.Column("created_at", word(40), nullable=False),
        sa.Column("updated_at", word(40), nullable=False),
    )
    op.create_index("threads_by_user", "threads", ["user_id", "updated_at"])
    op.create_table(
        "deleted_threads",
        sa.Column("id", word(36), primary_key=True),
        sa.Column("deleted_at", word(40), nullable=False),
    )
    op.create_table(
        "steps",
        position(),
        sa.Column("id", word(36), nullable=False, unique=True),
        sa.Column("thread_id", word(36), sa.ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
        sa.Column("parent_id", word(36)),
        sa.Column("type", word(40), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("input", sa.Text, nullable=False),
        sa.Column("output", sa.Text, nullable=False),
        sa.Column("is_error", sa.Boolean, nullable=False),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("display", sa.JSON, nullable=False),
        sa.Column("created_at", word(40)),
        sa.Column("started_at", word(40)),
        sa.Column("ended_at", word(40)),
    )
    op.create_index("steps_by_thread", "steps", ["thread_id", "position"])
    op.create_table(
        "elements",
        position(),
        sa.Column("id", word(36), nullable=False, unique=True),
        sa.Column("thread_id", word(36), sa.ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
        sa.Column("step_id", word(36)),
        sa.Column("content", sa.JSON, nullable=False),
    )
    op.create_index("elements_by_thread", "elements", ["thread_id", "position"])
    op.create_table(
        "feedback",
        sa.Column("id", word(36), primary_key=True),
        sa.Column("thread_id", word(36), sa.ForeignKey("threads.id", ondelete="CASCADE"), nullable=False),
        sa.Column("step_id", word(36), sa.ForeignKey("steps.id", ondelete="CASCADE"), nullable=False, unique=True),
        sa.Column("value", sa.Integer, nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("created_at", word(40), nullable=False),
    )
    op.create_index("feedback_by_thread", "feedback", ["thread_id"])
