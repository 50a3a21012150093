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
