"""Columns as migrations make them. What a migration has made stays, so these never change."""

from __future__ import annotations

import sqlalchemy as sa


def word(length: int | None = None) -> sa.types.TypeEngine[str]:
    """Text that is compared byte by byte; SQLite's columns tell a length, and no database checks it."""
    short = sa.Text() if length is None else sa.String(length)
    return short.with_variant(sa.Text(collation="C"), "postgresql")


def position() -> sa.Column[int]:
    """The order in which rows came; SQLite numbers them by a column of exactly this type."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("position", number, primary_key=True, autoincrement=True)
