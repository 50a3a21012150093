"""Conversations to train on, written by chance from a seed.

The questions of `evaluation/` are never among them, in whatever order of words: see `held_out`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.guide.knowledge import FOREIGN, LANGUAGES, Foreign, Intent, Language, intents
from training.guide.noise import Noise

EVALUATION: Final = Path(__file__).parent / "evaluation"

Message = dict[str, str]

_SYSTEM: Final = (
    "Answer briefly.",
    "You are a helpful assistant.",
    "Be polite.",
    "Отвечай кратко.",
    "Ты полезный помощник.",
    "Speak like a pirate.",
)


@dataclass(frozen=True, slots=True)
class Mix:
    """What conversations are made of: how often a question is about something else, a system prompt comes first,
    the language changes from one turn to the next; and the numbers of turns to choose from."""

    foreign: float = 0.35
    system: float = 0.1
    other_language: float = 0.15
    turns: tuple[int, ...] = (1, 1, 1, 2, 2, 3, 4, 6, 8)


@dataclass(frozen=True, slots=True)
class Question:
    """A question for evaluation, the key of the intent that answers it, and the file that it comes from."""

    key: str
    language: Language
    text: str
    source: str


def held_out() -> list[Question]:
    """The questions that training never sees."""
    found = []
    for file in sorted(EVALUATION.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            found.append(Question(**json.loads(line), source=file.stem))
    return found


def bag(text: str) -> tuple[str, ...]:
    """The words of a text in alphabetical order, signs left out; two alike ask the same."""
    return tuple(sorted(re.sub(r"[^\w\s`:/.=-]", " ", text.lower()).split()))


class Writer:
    """Writes conversations.

    Args:
        seed: two writers of one seed write the same.
        mix: what the conversations are made of.
    """

    def __init__(self, seed: int, mix: Mix | None = None) -> None:
        self._chance = random.Random(seed)
        self._mix = mix or Mix()
        self._intents = intents()
        self._foreign = Foreign()
        self._noise = Noise(self._chance)
        self._held_out = {bag(question.text) for question in held_out()}

    def reseed(self, seed: int | str) -> None:
        """From here on write what this seed gives."""
        self._chance.seed(seed)

    def conversations(self) -> Iterator[list[Message]]:
        """One after the other, without end."""
        while True:
            yield self.conversation()

    def conversation(self) -> list[Message]:
        """A conversation of one to eight turns, mostly in one language."""
        chance, messages = self._chance, []
        if chance.random() < self._mix.system:
            messages.append({"role": "system", "content": chance.choice(_SYSTEM)})
        language: Language = chance.choice(LANGUAGES)
        for _ in range(chance.choice(self._mix.turns)):
            if chance.random() < self._mix.other_language:
                language = chance.choice(LANGUAGES)
            question, answer = self.turn(language)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return messages

    def turn(self, language: Language) -> tuple[str, str]:
        """A question and its answer."""
        while True:
            if self._chance.random() < self._mix.foreign:
                text, answer = self._foreign.question(language, self._chance), self._foreign.answers[language]
            else:
                intent: Intent = self._chance.choice(self._intents)
                text, answer = intent.ways[language].question(self._chance), intent.answers[language]
            asked = self._noise(text, language)
            if bag(text) not in self._held_out and bag(asked) not in self._held_out:
                return self._noise.dress(asked), answer


def answers_of(key: str, language: Language) -> str:
    """The answer that the guide should give."""
    if key == FOREIGN:
        return Foreign().answers[language]
    return next(intent.answers[language] for intent in intents() if intent.key == key)
