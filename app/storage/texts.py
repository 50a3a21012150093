"""What happens to texts and times before they are stored or compared."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime
from typing import Any


def now() -> str:
    """This moment in UTC, ISO 8601; of one length always, so that texts sort as times do."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def folded(text: str | None) -> str | None:
    """`text` for a comparison that ignores case, in every script (SQLite's own `lower` knows ASCII only)."""
    return None if text is None else unicodedata.normalize("NFKC", text).casefold()


def storable(value: Any) -> Any:
    """`value` (as JSON has it) with what no database takes left out of its texts.

    NUL goes; two surrogates that are a pair become their character, a lone one U+FFFD; a number that is none (NaN,
    infinity) becomes None.
    """
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {storable(key): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return value
