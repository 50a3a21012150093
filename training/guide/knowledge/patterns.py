"""Texts written short: choices in brackets, and the files that hold them."""

from __future__ import annotations

import itertools
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import yaml

Language = Literal["en", "ru"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "ru")

_FOLDER: Final = Path(__file__).parent
_CHOICE: Final = re.compile(r"\(([^()]*)\)")


def expand(pattern: str) -> list[str]:
    """All texts of a pattern: `(a|b|) c` gives `a c`, `b c`, `c`."""
    parts = _CHOICE.split(pattern)
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    return [" ".join("".join(chosen).split()) for chosen in itertools.product(*choices)]


def expand_all(line: str) -> tuple[tuple[str, ...], ...]:
    """The texts of each pattern in a line, where `;` parts them."""
    return tuple(tuple(expand(pattern)) for pattern in line.split(";"))


@cache
def read(name: str) -> dict[str, Any]:
    """A file of this folder, such as `foreign/words.yaml`."""
    return dict(yaml.safe_load((_FOLDER / name).read_text(encoding="utf-8")))


def fact_files() -> list[str]:
    """The files of facts, in the order of their names."""
    return sorted(f"facts/{file.name}" for file in (_FOLDER / "facts").glob("*.yaml"))


@cache
def questions(folder: str) -> list[str]:
    """Questions that were written one by one: the lines of all `.txt` files of a folder such as `foreign/en`."""
    files = sorted((_FOLDER / folder).glob("*.txt"))
    return list(dict.fromkeys(line for file in files for line in _lines(file)))


@cache
def questions_by_key(folder: str) -> dict[str, tuple[str, ...]]:
    """The same for a folder whose files have parts, each below a line with its key in brackets: `[settings]`.

    Raises:
        ValueError: a question stands before the first key.
    """
    found: dict[str, dict[str, None]] = {}
    for file in sorted((_FOLDER / folder).glob("*.txt")):
        key = ""
        for line in _lines(file):
            if line.startswith("[") and line.endswith("]"):
                key = line[1:-1]
            elif not key:
                raise ValueError(f"{file.name} begins without a [key]: {line}")
            else:
                found.setdefault(key, {})[line] = None
    return {key: tuple(texts) for key, texts in found.items()}


def _lines(file: Path) -> list[str]:
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]
