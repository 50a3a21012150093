"""Files and folders as documents, one after the other, however large they are."""

from __future__ import annotations

import codecs
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from training.data.documents import Document, document_of
from training.data.errors import DataError

LINES: Final = (".jsonl",)
TEXTS: Final = (".txt", ".md")
SUFFIXES: Final = LINES + TEXTS
# A text file is cut into passages of about so many characters, at a blank line if there is one: parts of a book can be
# held out, not only the whole.
PASSAGE: Final = 2_000
_LONGEST: Final = 8_000
_CHUNK: Final = 1 << 16


def corpus_files(paths: Iterable[Path]) -> list[Path]:
    """The files that are meant, those of a folder by name, its folders included.

    Raises:
        DataError: a path is missing, a file is of an unknown kind, or a folder has none of a known kind.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.is_file() and not _hidden(file, path))
            known = [file for file in inside if file.suffix.lower() in SUFFIXES]
            if not known:
                there = f"{len(inside)} files of other kinds" if inside else "nothing"
                raise DataError(f"{path} has {there} in it; put {', '.join(SUFFIXES)} files there")
            found += known
        elif not path.exists():
            raise DataError(f"{path} is not there; name another by DATA=folder, or in `data` of the config")
        elif path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} is of an unknown kind; a corpus is of {', '.join(SUFFIXES)} files")
        else:
            found.append(path)
    # A file that is named beside its folder is one file.
    return list({file.resolve(): file for file in found}.values())


def read_documents(file: Path) -> Iterator[Document | None]:
    """What a file holds; None for each reply that a visitor gave a thumb down.

    Raises:
        DataError: it cannot be read, is not UTF-8, or a line is not what it should be.
    """
    try:
        yield from _lines(file) if file.suffix.lower() in LINES else _passages(file)
    except OSError as problem:
        raise DataError(f"{file} cannot be read: {problem.strerror or problem}") from None


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _lines(file: Path) -> Iterator[Document | None]:
    at = 0
    with file.open("rb") as content:
        for number, raw in enumerate(content, 1):
            where = f"{file}, line {number}"
            line = _Decoder(file, at).decode(raw, final=True)
            at += len(raw)
            if not line.strip():
                continue
            try:
                value = json.loads(line.rstrip())
            except json.JSONDecodeError as problem:
                raise DataError(f"{where}: no JSON: {problem.msg} (column {problem.colno})") from None
            except RecursionError:
                raise DataError(f"{where}: no JSON that can be read: it is nested too deeply") from None
            if not isinstance(value, dict):
                raise DataError(f"{where}: not an object; each line is one JSON object in braces")
            yield document_of(value, where)


def _passages(file: Path) -> Iterator[Document]:
    rest, first = "", True
    for text in _decoded(file):
        rest += text
        while len(rest) > _LONGEST:
            cut = _cut(rest)
            passage, rest = rest[:cut], rest[cut:]
            if passage.strip():
                yield Document(text=passage, continues=not first)
                first = False
    while rest.strip():
        cut = _cut(rest) if len(rest) > PASSAGE else len(rest)
        yield Document(text=rest[:cut], continues=not first)
        rest, first = rest[cut:], False


def _cut(text: str) -> int:
    """Where a passage ends: after a blank line, a line, a space, or just there."""
    for end in ("\n\n", "\n", " "):
        at = text.find(end, PASSAGE, _LONGEST)
        if at >= 0:
            return at + len(end)
    return min(len(text), _LONGEST)


def _decoded(file: Path) -> Iterator[str]:
    with file.open("rb") as content:
        decoder = _Decoder(file, 0)
        while chunk := content.read(_CHUNK):
            yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)


class _Decoder:
    """UTF-8 with or without a byte order mark, ends of lines as `\\n`; errors name the byte."""

    def __init__(self, file: Path, at: int) -> None:
        self._file, self._at, self._begins = file, at, at == 0
        self._bytes = codecs.getincrementaldecoder("utf-8")()
        self._text = io.IncrementalNewlineDecoder(None, translate=True)

    def decode(self, raw: bytes, *, final: bool = False) -> str:
        """The text of the next bytes.

        Raises:
            DataError: they are no UTF-8 text.
        """
        if self._at == 0 and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise self._wrong(0, "it begins as UTF-16 does", "UTF-16")
        kept = len(self._bytes.getstate()[0])
        try:
            text = self._bytes.decode(raw, final)
        except UnicodeDecodeError as problem:
            byte = problem.object[problem.start]
            raise self._wrong(self._at - kept + problem.start, f"the byte is 0x{byte:02x}", "WINDOWS-1251") from None
        zero = raw.find(b"\0")
        if zero >= 0:
            raise self._wrong(self._at + zero, "the byte is zero, as in UTF-16 or in a file that is no text", "UTF-16")
        self._at += len(raw)
        if self._begins and text:
            text, self._begins = text.removeprefix("\ufeff"), False
        return str(self._text.decode(text, final))

    def _wrong(self, at: int, why: str, encoding: str) -> DataError:
        return DataError(
            f"{self._file} is not UTF-8 at byte {at}: {why}. Write it anew as UTF-8, for example: "
            f"iconv -f {encoding} -t UTF-8 {self._file.name} > new{self._file.suffix} (if it was {encoding})"
        )
