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
_SYNONYMS: Final = _HERE / "synonyms.yaml"
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
    more = {language: _read(_HERE / "paraphrases" / f"{language}.yaml") for language in LANGUAGES}
    found = []
    for file in sorted(_HERE.glob("*.yaml")):
        if file.stem.startswith(FOREIGN) or file == _SYNONYMS:
            continue
        for key, entry in _read(file).items():
            questions = {language: _questions(entry[f"ask_{language}"], more[language][key]) for language in LANGUAGES}
            found.append(Intent(key, {language: entry[language] for language in LANGUAGES}, questions))
    return found


def _questions(patterns: list[str], more: str) -> tuple[str, ...]:
    """Half of them from the patterns, half written one by one, which are fewer but more unlike each other."""
    written = more.split("|")
    expanded = list(dict.fromkeys(text for pattern in patterns for text in expand(pattern)))
    return (*expanded, *(written * max(round(len(expanded) / len(written)), 1)))


class Foreign:
    """What the guide does not know: any number of questions, and the one honest answer."""

    def __init__(self) -> None:
        self._data = _read(_HERE / f"{FOREIGN}.yaml")
        self._words = _read(_HERE / f"{FOREIGN}_words.yaml")
        free = _read(_HERE / f"{FOREIGN}_free.yaml")
        self.answers: dict[Language, str] = self._data["answer"]
        self._free = {language: [text for line in free[language] for text in line.split("|")] for language in LANGUAGES}
        self._templates = {
            kind: {language: [expand(pattern) for pattern in data[f"templates_{language}"]] for language in LANGUAGES}
            for kind, data in (("things", self._data), ("words", free))
        }

    def question(self, language: Language, chance: random.Random) -> str:
        """One question, by chance: about a thing, of ordinary words, or one of no pattern."""
        kind = chance.choice(("things", "things", "words", "free"))
        if kind == "free":
            return str(chance.choice(self._free[language]))
        template = chance.choice(chance.choice(self._templates[kind][language]))
        return _PLACE.sub(lambda place: self._fill(place[1], language, chance), template)

    def _fill(self, name: str, language: Language, chance: random.Random) -> str:
        words = self._words[language] if name.startswith("word") else self._data[name][language]
        return str(chance.choice(words))


def _read(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


def answers() -> Iterator[tuple[str, Language, str]]:
    """Key, language and text of every answer."""
    for intent in intents():
        for language in LANGUAGES:
            yield intent.key, language, intent.answers[language]
    for language, text in Foreign().answers.items():
        yield FOREIGN, language, text


def synonyms() -> dict[Language, dict[str, tuple[str, ...]]]:
    """For a word, others that may stand in its place."""
    groups = {language: [line.split("|") for line in lines] for language, lines in _read(_SYNONYMS).items()}
    return {language: {word: tuple(others) for word, *others in groups[language]} for language in LANGUAGES}
