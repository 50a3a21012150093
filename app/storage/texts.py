"""What happens to texts and times before they are stored or compared."""

from __future__ import annotations

import math
import secrets
import time
import unicodedata
import uuid
from datetime import UTC, datetime
from typing import Any, Final

# Parts of a UUID7, in bits: https://www.rfc-editor.org/rfc/rfc9562#section-5.7
_VERSION: Final = 7 << 76
_VARIANT: Final = 0b10 << 62


def new_id() -> str:
    """An id that sorts by the millisecond in which it was made (UUID7, RFC 9562); the other 74 bits are random."""
    random = secrets.randbits(74)
    at = time.time_ns() // 1_000_000
    return str(uuid.UUID(int=at << 80 | _VERSION | (random >> 62) << 64 | _VARIANT | random & (1 << 62) - 1))


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
