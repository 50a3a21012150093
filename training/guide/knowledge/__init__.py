"""What the guide knows, as data.

- `facts/`: for each thing (an intent) its one answer in each language, and patterns of how people ask for it;
- `paraphrases/`: further questions, written one by one, a line each below the key of their intent;
- `phrases/`, `frames.yaml`: what people want, and the turns of speech to ask for it;
- `foreign/`: what it does not know;
- `synonyms.yaml`, `haste.yaml`: words that may stand for each other, and how they are shortened in haste.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from training.guide.knowledge.foreign import FOREIGN, Foreign
from training.guide.knowledge.patterns import LANGUAGES, Language, expand, fact_files, questions_by_key, read
from training.guide.knowledge.phrases import Phrases

__all__ = ["FOREIGN", "LANGUAGES", "Foreign", "Intent", "Language", "Ways", "answers", "hasty", "intents", "synonyms"]

# Share of the questions that were written one by one.
_WRITTEN: Final = 0.75


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways to ask for one thing in one language: from patterns, written one by one, and phrases (if any)."""

    patterns: tuple[str, ...]
    written: tuple[str, ...]
    phrases: Phrases | None

    def question(self, chance: random.Random) -> str:
        """One of them, most often one that was written for itself: these are the most like people's."""
        share = chance.random()
        if share < _WRITTEN:
            return chance.choice(self.written)
        if self.phrases and share < _WRITTEN + (1 - _WRITTEN) / 2:
            return self.phrases.question(chance)
        return chance.choice(self.patterns)

    def __iter__(self) -> Iterator[str]:
        """All of them, phrases without their frames."""
        yield from self.patterns
        yield from self.written
        yield from self.phrases or ()


@dataclass(frozen=True, slots=True)
class Intent:
    """A thing that the guide knows: its answers and the ways to ask for it, by language."""

    key: str
    answers: dict[Language, str]
    ways: dict[Language, Ways]


def intents() -> list[Intent]:
    """Everything that the guide knows, in the order of the files."""
    return [
        Intent(
            key,
            {language: entry[language] for language in LANGUAGES},
            {language: _ways(key, entry, language) for language in LANGUAGES},
        )
        for file in fact_files()
        for key, entry in read(file).items()
    ]


def _ways(key: str, entry: dict[str, Any], language: Language) -> Ways:
    patterns = dict.fromkeys(text for pattern in entry[f"ask_{language}"] for text in expand(pattern))
    written = questions_by_key(f"paraphrases/{language}")[key]
    phrases = read(f"phrases/{language}.yaml").get(key)
    return Ways(tuple(patterns), written, Phrases(phrases, language) if phrases else None)


def answers() -> dict[tuple[str, Language], str]:
    """The text of every answer by key and language."""
    found = {(intent.key, language): intent.answers[language] for intent in intents() for language in LANGUAGES}
    return found | {(FOREIGN, language): text for language, text in Foreign().answers.items()}


def synonyms() -> dict[Language, dict[str, tuple[str, ...]]]:
    """For a word, others that may stand in its place."""
    return _groups("synonyms.yaml")


def hasty() -> dict[Language, dict[str, tuple[str, ...]]]:
    """For a word, what people type instead in haste; an empty text where they leave it out."""
    return _groups("haste.yaml")


def _groups(name: str) -> dict[Language, dict[str, tuple[str, ...]]]:
    groups = {language: [line.split("|") for line in read(name)[language]] for language in LANGUAGES}
    return {
        language: {word: tuple(other.replace("~", "") for other in others) for word, *others in groups[language]}
        for language in LANGUAGES
    }
