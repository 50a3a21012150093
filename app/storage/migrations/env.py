"""Alembic's environment. It has no configuration file and makes no connection: `app.storage.migrate` brings its own,
in a transaction that holds the lock, from inside `AsyncConnection.run_sync`."""

from __future__ import annotations

from alembic import context

from app.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
