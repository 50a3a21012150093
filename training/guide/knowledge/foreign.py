"""What the guide does not know: any number of questions, and the one honest answer."""

from __future__ import annotations

import random
import re
from typing import Final

from training.guide.knowledge.patterns import LANGUAGES, Language, expand, questions, read
from training.guide.knowledge.phrases import Phrases

FOREIGN: Final = "foreign"

_PLACE: Final = re.compile(r"\{(\w+)\}")
# Where the questions come from: templates filled with things or with ordinary words, written ones, phrases.
_SOURCES: Final = ("things", "words", *("written",) * 5, "phrases", "phrases")


class Foreign:
    """Questions about anything but the program. `answers`: what the guide says to all of them, `written`:
    those that were written one by one, both by language."""

    def __init__(self) -> None:
        self._things = read("foreign/questions.yaml")
        self._words = read("foreign/words.yaml")
        templates = read("foreign/templates.yaml")
        self.answers: dict[Language, str] = self._things["answer"]
        self.written: dict[Language, list[str]] = {language: questions(f"foreign/{language}") for language in LANGUAGES}
        self._phrases = {
            language: Phrases(read(f"phrases/{language}.yaml")[FOREIGN], language) for language in LANGUAGES
        }
        self._templates = {
            source: {language: [expand(pattern) for pattern in data[f"templates_{language}"]] for language in LANGUAGES}
            for source, data in (("things", self._things), ("words", templates))
        }

    def question(self, language: Language, chance: random.Random) -> str:
        """One question, by chance."""
        source = chance.choice(_SOURCES)
        if source == "written":
            return str(chance.choice(self.written[language]))
        if source == "phrases":
            return self._phrases[language].question(chance)
        template = chance.choice(chance.choice(self._templates[source][language]))
        return _PLACE.sub(lambda place: self._fill(place[1], language, chance), template)

    def _fill(self, name: str, language: Language, chance: random.Random) -> str:
        words = self._words[language] if name.startswith("word") else self._things[name][language]
        return str(chance.choice(words))
