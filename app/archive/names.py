"""Names of files: readable, safe on every system, no two alike."""

from __future__ import annotations

import unicodedata
from typing import Final
from urllib.parse import quote

# A name of 255 bytes is the longest that common file systems take; a date, a number and an ending come to it.
_LONGEST: Final = 120
# What Windows, or a path, makes something else of.
_SPECIAL: Final = frozenset('\\/:*?"<>|')


class FileNames:
    """Names for the conversations of one archive."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, title: str | None, at: str) -> str:
        """A name without its ending.

        Args:
            title: the conversation's.
            at: when it was used last, in ISO 8601.
        """
        wanted = name = file_name(title, at)
        number = 1
        # Two names that differ in capitals alone are one on many systems.
        while (key := unicodedata.normalize("NFKC", name).casefold()) in self._taken:
            number += 1
            name = f"{wanted} ({number})"
        self._taken.add(key)
        return name


def file_name(title: str | None, at: str) -> str:
    """The date and the beginning of the title: `2026-11-20 How do I cook rice`."""
    text = "".join(" " if _is_special(sign) else sign for sign in unicodedata.normalize("NFC", title or ""))
    short = " ".join(text.split()).encode()[:_LONGEST].decode(errors="ignore").strip(" .")
    return f"{at[:10]} {short}".rstrip()


def _is_special(sign: str) -> bool:
    # Of the invisible ones only the joiner stays, which emoji of several parts need.
    return sign in _SPECIAL or (unicodedata.category(sign).startswith("C") and sign != "\u200d")


def attachment(name: str) -> str:
    """A Content-Disposition that saves an answer under that name: RFC 6266, with the name in RFC 5987's form and, for
    programs that know only ASCII, without what is not."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = "".join(sign for sign in plain if sign.isprintable() and sign not in '"\\%').strip()
    return f"attachment; filename=\"{' '.join(plain.split())}\"; filename*=UTF-8''{quote(name, safe='')}"
