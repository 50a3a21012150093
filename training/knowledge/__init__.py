"""What the guide knows, as data: one YAML file a field, one answer in one place."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml

Language = Literal["en", "ru"]
LANGUAGES: Final[tuple[Language, ...]] = ("en", "ru")
FOREIGN: Final = "foreign"

_HERE: Final = Path(__file__).parent
_CHOICE: Final = re.compile(r"\(([^()]*)\)")
_PLACE: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Intent:
    """A thing that the guide knows: its answers and the ways to ask for it, by language."""

    key: str
    answers: dict[Language, str]
    questions: dict[Language, tuple[str, ...]]


def expand(pattern: str) -> list[str]:
    """All texts of a pattern: `(a|b|) c` gives `a c`, `b c`, `c`."""
    parts = _CHOICE.split(pattern)
    choices = [part.split("|") if index % 2 else [part] for index, part in enumerate(parts)]
    return [" ".join("".join(chosen).split()) for chosen in itertools.product(*choices)]


def intents() -> list[Intent]:
    """Everything that the guide knows, in the order of the files."""
    found = []
    for file in sorted(_HERE.glob("*.yaml")):
        if file.stem == FOREIGN:
            continue
        for key, entry in _read(file).items():
            questions = {
                language: tuple(
                    dict.fromkeys(text for pattern in _patterns(entry, language) for text in expand(pattern))
                )
                for language in LANGUAGES
            }
            found.append(Intent(key, {language: entry[language] for language in LANGUAGES}, questions))
    return found


def _patterns(entry: dict[str, Any], language: Language) -> list[str]:
    return list(entry[f"ask_{language}"])


class Foreign:
    """What the guide does not know: any number of questions, and the one honest answer."""

    def __init__(self) -> None:
        self._data = _read(_HERE / f"{FOREIGN}.yaml")
        self.answers: dict[Language, str] = self._data["answer"]
        self._templates = {
            language: [expand(pattern) for pattern in self._data[f"templates_{language}"]] for language in LANGUAGES
        }

    def question(self, language: Language, chance: random.Random) -> str:
        """One question, by chance."""
        template = chance.choice(chance.choice(self._templates[language]))
        return _PLACE.sub(lambda place: str(chance.choice(self._data[place[1]][language])), template)


def _read(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def answers() -> Iterator[tuple[str, Language, str]]:
    """Key, language and text of every answer."""
    for intent in intents():
        for language in LANGUAGES:
            yield intent.key, language, intent.answers[language]
    for language, text in Foreign().answers.items():
        yield FOREIGN, language, text
