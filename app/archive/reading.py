"""What a visitor brings: a zip of conversations or one of them, from anybody's hand, so nothing of it is trusted."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final, cast

from pydantic_core import from_json as parse

from app.archive.conversation_file import VERSION, ConversationFile, NewerExport, NotAnExport, from_json
from app.archive.writing import FORMAT, MANIFEST
from app.machine import MIB

# The largest file of one conversation.
LARGEST: Final = 32 * MIB
_LARGEST_MANIFEST: Final = MIB
# Text becomes three to five times smaller in a zip, and half of the zip are the same texts as Markdown.
_MOST_EXPANSION: Final = 8
_MOST_FILES: Final = 100_000
# The zip's list of its files, which is read at once; an entry has 46 bytes and its name.
_LARGEST_LIST: Final = 16 * MIB
_WAYS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED: Final = 1
# What zipfile raises for what is no zip, or for one that breaks off or lies.
_BROKEN: Final = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
)


class TooLarge(Exception):
    """More than may be brought at once."""


class _Bounded:
    """A file of which no more is read at once than a zip's list may have."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if size > _LARGEST_LIST:
            raise TooLarge
        data = self._file.read(size if size >= 0 else _LARGEST_LIST + 1)
        if len(data) > _LARGEST_LIST:
            raise TooLarge
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def conversations(file: IO[bytes], most: int) -> Iterator[ConversationFile]:
    """The conversations in a file, one in memory at a time. Names of files are looked at and never used.

    Args:
        file: a zip, or the JSON of one conversation.
        most: how many bytes a zip may be; what it unpacks to is bounded by a multiple of it.

    Raises:
        TooLarge: it unpacks to more than that, or one conversation does to more than LARGEST.
        NotAnExport: it is none, or a part of it is broken.
    """
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if not start.startswith(b"PK"):
        data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise TooLarge
        yield from_json(data)
        return
    try:
        with zipfile.ZipFile(cast(IO[bytes], _Bounded(file))) as whole:
            yield from _inside(whole, _MOST_EXPANSION * most)
    except _BROKEN:
        raise NotAnExport from None


def _inside(whole: zipfile.ZipFile, left: int) -> Iterator[ConversationFile]:
    files = whole.infolist()
    if len(files) > _MOST_FILES:
        raise TooLarge
    _check_manifest(whole, [file for file in files if file.filename == MANIFEST])
    for file in files:
        if file.filename != MANIFEST and file.filename.endswith(".json"):
            data = _unpacked(whole, file, min(left, LARGEST))
            left -= len(data)
            yield from_json(data)


def _check_manifest(whole: zipfile.ZipFile, found: list[zipfile.ZipInfo]) -> None:
    if len(found) != 1:
        raise NotAnExport
    manifest = parse(_unpacked(whole, found[0], _LARGEST_MANIFEST))
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT or type(manifest.get("version")) is not int:
        raise NotAnExport
    if manifest["version"] != VERSION:
        raise NewerExport if manifest["version"] > VERSION else NotAnExport


def _unpacked(whole: zipfile.ZipFile, file: zipfile.ZipInfo, room: int) -> bytes:
    """All of a file in the zip; what the list says of its size may be a lie."""
    if file.compress_type not in _WAYS or file.flag_bits & _ENCRYPTED:
        raise NotAnExport
    with whole.open(file) as part:
        data = part.read(room + 1)
    if len(data) > room:
        raise TooLarge
    return data
