"""Alembic's own table in place of ours; elements are found by their step; search in every script on PostgreSQL too."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"

# SQLite has `folded` from app.storage.connect. PostgreSQL's own `upper` knows the letters of the database's locale,
# which may be none but ASCII; ICU knows all, and a PostgreSQL without it is rare.
_FOLDED = """
CREATE FUNCTION folded(said text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT upper(normalize(said, NFKC){collation}) $$
"""
_ICU = "SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu' AND collnamespace = 'pg_catalog'::regnamespace"


def upgrade() -> None:
    op.drop_table("schema_version")
    op.create_index("elements_by_step", "elements", ["step_id"])
    if op.get_context().dialect.name == "postgresql":
        icu = op.get_bind().execute(text(_ICU)).scalar()
        op.execute(_FOLDED.format(collation=' COLLATE "und-x-icu"' if icu else ""))
