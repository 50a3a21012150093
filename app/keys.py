"""The keys of programs: API_KEYS."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from pydantic import SecretStr

# What is shorter, or has fewer signs that differ, can be guessed.
_SHORT: Final = 16
_FEW_SIGNS: Final = 5
_NAME: Final = re.compile(r"[A-Za-z0-9._@-]{1,40}")
# What a header holds as it is.
_KEY: Final = re.compile(r"[!-~]+")
_COMMENT: Final = re.compile(r"(?:^|\s)#")
_PATHS: Final = ("/", "./", "../", "~/")

# Parts of secrets that are in guides and examples, without what is between their words.
_FROM_GUIDES: Final = (
    "changeme",
    "changethis",
    "replaceme",
    "replacethis",
    "yoursecret",
    "yourkey",
    "mysecret",
    "secretkey",
    "supersecret",
    "topsecret",
    "notsecret",
    "insecure",
    "placeholder",
    "password",
    "default",
    "example",
    "chainlit",
    "apikeyhere",
    "yourapikey",
    "myapikey",
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key; `name` is what logs and limits know it by."""

    name: str
    value: SecretStr

    @property
    def is_weak(self) -> bool:
        """Whether it can be guessed, or nearly so."""
        value = self.value.get_secret_value()
        return len(value) < _SHORT or len(set(value)) < _FEW_SIGNS or is_from_a_guide(value)


def is_from_a_guide(secret: str) -> bool:
    """Whether a part of a secret stands in guides and examples."""
    words = re.sub(r"[\W_]", "", secret.lower())
    return any(part in words for part in _FROM_GUIDES)


def read_keys(setting: str) -> tuple[Key, ...]:
    """The keys that a setting holds: `name:key,key`, or the path of a file that has one in each line.

    Args:
        setting: as it was written.

    Raises:
        ValueError: it cannot be used. Nothing of the setting is in the text: what it is taken for may be wrong.
    """
    setting = setting.strip()
    path = key_file(setting)
    if path is None:
        entries = [part.strip() for part in setting.split(",") if part.strip()]
    else:
        try:
            entries = list(_lines(path.read_text(encoding="utf-8")))
        except OSError as problem:
            raise ValueError(f"the file that it names cannot be read ({problem.strerror})") from None
        except UnicodeDecodeError:
            raise ValueError("the file that it names is not text") from None
    keys = tuple(_key(number, entry) for number, entry in enumerate(entries, 1))
    for number, key in enumerate(keys, 1):
        _check(number, key)
    if not keys:
        raise ValueError("there is no key in it")
    return keys


def key_file(setting: str) -> Path | None:
    """The file that a setting names; None: the keys stand in the setting itself."""
    setting = setting.strip()
    return Path(setting).expanduser() if setting.startswith(_PATHS) or _is_file(setting) else None


class Keys:
    """Tells whose key it is. How long that takes says nothing of the key."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._hashes: Sequence[tuple[str, bytes]] = [(key.name, _hash(key.value.get_secret_value())) for key in keys]

    def name_of(self, sent: str) -> str | None:
        """The name of a key; None: it is none of ours."""
        found, hashed = None, _hash(sent)
        for name, known in self._hashes:
            if hmac.compare_digest(hashed, known):
                found = name
        return found

    def __len__(self) -> int:
        return len(self._hashes)


def _hash(key: str) -> bytes:
    return sha256(key.encode("utf-8", "replace")).digest()


def _is_file(setting: str) -> bool:
    try:
        return Path(setting).is_file()
    except OSError:  # longer than a name can be
        return False


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        entry = _COMMENT.split(line, 1)[0].strip()
        if entry:
            name, *more = entry.split()
            yield f"{name.removesuffix(':')}:{' '.join(more)}" if more else entry


def _key(number: int, entry: str) -> Key:
    name, colon, value = entry.partition(":")
    return Key(name.strip(), SecretStr(value.strip())) if colon else Key(f"key-{number}", SecretStr(entry))


def _check(number: int, key: Key) -> None:
    value = key.value.get_secret_value()
    if not _NAME.fullmatch(key.name):
        raise ValueError(f"the name of key {number} is none: up to 40 letters, digits and . _ - @ make one")
    if not _KEY.fullmatch(value):
        raise ValueError(f"key {number} holds a sign that no header takes: letters, digits and .-_~+/= do")
