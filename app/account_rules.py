"""Which names and passwords an account may have."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from pathlib import Path
from typing import Final

from app.account_errors import (
    BadName,
    PasswordCommon,
    PasswordLikeName,
    PasswordTooLong,
    PasswordTooShort,
    PasswordUnusable,
)
from app.storage.texts import folded

SHORTEST_NAME: Final = 2
LONGEST_NAME: Final = 64
LONGEST_PASSWORD: Final = 1000

# A colon stands between a provider and its user's name, and `anon-` before what a cookie leads to.
_NAME: Final = re.compile(r"[^\W_]([\w.@+-]*[^\W_])?")
_ANONYMOUS: Final = "anon-"
_COMMON: Final = Path(__file__).parent / "data" / "common_passwords.txt"
# A password made of these and of little else is one that everybody tries here.
_OURS: Final = ("chainlit", "ollama", "password", "пароль")
_ENOUGH_ELSE: Final = 6
_DIFFERENT_SIGNS: Final = 4


def identifier_of(name: str) -> str:
    """What an account is known by: its name, whatever its case and however its letters are written.

    Raises:
        BadName: no account can have that name.
    """
    plain = folded(name.strip()) or ""
    if (
        not SHORTEST_NAME <= len(plain) <= LONGEST_NAME
        or len(name) > 2 * LONGEST_NAME
        or not _NAME.fullmatch(plain)
        or plain.startswith(_ANONYMOUS)
    ):
        raise BadName(least=SHORTEST_NAME, most=LONGEST_NAME)
    return plain


def plain_password(password: str) -> str:
    """A password as it is hashed: the same signs, however a keyboard writes them (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)


def check_password(password: str, name: str, least: int) -> None:
    """See that a new password is a good one.

    Args:
        password: as it was typed.
        name: of the account.
        least: characters that it has to have.

    Raises:
        WeakPassword: it is not; its class tells why.
    """
    # Before anything is done with it: it may be of a megabyte.
    if len(password) > LONGEST_PASSWORD:
        raise PasswordTooLong(most=LONGEST_PASSWORD)
    if any(unicodedata.category(sign) in ("Cc", "Cs", "Cn") for sign in password):
        raise PasswordUnusable
    if len(plain_password(password)) < least:
        raise PasswordTooShort(least=least)
    plain = folded(password) or ""
    if len(set(plain)) < _DIFFERENT_SIGNS or plain in _common() or _is_mostly(plain, _OURS):
        raise PasswordCommon
    known_by = folded(name) or ""
    if _is_mostly(plain, (known_by, *re.split(r"[\W_]", known_by))):
        raise PasswordLikeName


def _is_mostly(password: str, words: tuple[str, ...]) -> bool:
    """Whether little else is left of a password without these words."""
    rest = password
    for word in words:
        if len(word) > 2:
            rest = rest.replace(word, "")
    return rest != password and len(rest) < _ENOUGH_ELSE


@cache
def _common() -> frozenset[str]:
    lines = _COMMON.read_text(encoding="utf-8").splitlines()
    return frozenset(folded(line) or "" for line in lines if not line.startswith("#"))
