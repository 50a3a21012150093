"""Conversations to train on, written by chance from a seed.

The questions of `evaluation/` are never among them: see `held_out`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.knowledge import FOREIGN, LANGUAGES, Foreign, Intent, Language, intents

EVALUATION: Final = Path(__file__).parent / "evaluation"

Message = dict[str, str]

# Share of foreign questions, of system prompts, of questions with a slip of the finger or a polite beginning.
_FOREIGN_SHARE: Final = 0.4
_SYSTEM_SHARE: Final = 0.1
_SLIP_SHARE: Final = 0.25
_FRAME_SHARE: Final = 0.3
# Share of questions that lose a word or have two change places: the words count more than their order.
_SCRAMBLE_SHARE: Final = 0.3

_SYSTEM: Final = (
    "Answer briefly.",
    "You are a helpful assistant.",
    "Be polite.",
    "Отвечай кратко.",
    "Ты полезный помощник.",
    "Speak like a pirate.",
)
_BEFORE: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "please tell me, ",
        "hi, ",
        "hello! ",
        "one question: ",
        "can you tell me ",
        "and ",
        "so, ",
        "i wonder, ",
        "tell me please ",
        "excuse me, ",
        "sorry, ",
        "quick question, ",
        "good morning, ",
        "hey, ",
    ),
    "ru": (
        "подскажи, ",
        "скажи пожалуйста, ",
        "привет, ",
        "здравствуйте! ",
        "вопрос: ",
        "а ",
        "слушай, ",
        "интересно, ",
        "подскажите пожалуйста, ",
        "добрый день, ",
        "извини, ",
        "можешь сказать, ",
        "ну и ",
        "эй, ",
    ),
}
_AFTER: Final[dict[Language, tuple[str, ...]]] = {
    "en": (" please", " here", " exactly", ", thanks", " now", " then", "..."),
    "ru": (" пожалуйста", " здесь", " вообще", ", спасибо", " сейчас", " тогда", "..."),
}


@dataclass(frozen=True, slots=True)
class Question:
    """A question for evaluation: the key of the intent that answers it."""

    key: str
    language: Language
    text: str


def held_out() -> list[Question]:
    """The questions that training never sees."""
    found = []
    for file in sorted(EVALUATION.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            found.append(Question(**json.loads(line)))
    return found


def plain(text: str) -> str:
    """A text as the guide's template shows it to the model, signs left out; two alike are the same question."""
    return " ".join(re.sub(r"[^\w\s`:/.=-]", " ", text.lower()).split())


class Writer:
    """Writes conversations.

    Args:
        seed: two writers of one seed write the same.
    """

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._intents = intents()
        self._foreign = Foreign()
        self._held_out = {plain(question.text) for question in held_out()}

    def conversations(self) -> Iterator[list[Message]]:
        """One after the other, without end."""
        while True:
            yield self.conversation()

    def conversation(self) -> list[Message]:
        """A conversation of one to eight turns, mostly in one language."""
        chance = self._chance
        messages: list[Message] = []
        if chance.random() < _SYSTEM_SHARE:
            messages.append({"role": "system", "content": chance.choice(_SYSTEM)})
        language: Language = chance.choice(LANGUAGES)
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4, 6, 8))):
            if chance.random() < 0.1:
                language = chance.choice(LANGUAGES)
            question, answer = self._turn(language)
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        return messages

    def _turn(self, language: Language) -> tuple[str, str]:
        while True:
            if self._chance.random() < _FOREIGN_SHARE:
                text, answer = self._foreign.question(language, self._chance), self._foreign.answers[language]
            else:
                intent: Intent = self._chance.choice(self._intents)
                text, answer = self._chance.choice(intent.questions[language]), intent.answers[language]
            if plain(text) in self._held_out:
                continue
            asked = self._slip(self._frame(self._scramble(text), language))
            if plain(asked) not in self._held_out:
                return self._dress(asked), answer

    def _scramble(self, text: str) -> str:
        chance, words = self._chance, text.split()
        if len(words) < 4 or chance.random() >= _SCRAMBLE_SHARE:
            return text
        at = chance.randrange(len(words) - 1)
        if chance.random() < 0.5:
            del words[at]
        else:
            words[at], words[at + 1] = words[at + 1], words[at]
        return " ".join(words)

    def _frame(self, text: str, language: Language) -> str:
        chance = self._chance
        if chance.random() < _FRAME_SHARE:
            text = chance.choice(_BEFORE[language]) + text
        if chance.random() < _FRAME_SHARE / 2:
            text += chance.choice(_AFTER[language])
        return text

    def _slip(self, text: str) -> str:
        """A slip of the finger: a letter lost, doubled, or swapped with the next."""
        chance = self._chance
        if len(text) < 6 or chance.random() >= _SLIP_SHARE:
            return text
        at = chance.randrange(1, len(text) - 2)
        kind = chance.randrange(4)
        if kind == 0:
            return text[:at] + text[at + 1 :]
        if kind == 1:
            return text[:at] + text[at] + text[at:]
        if kind == 2:
            return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        return text.replace("ё", "е")

    def _dress(self, text: str) -> str:
        """Signs as people put them; the template takes most of them away again."""
        return text + self._chance.choice(("?", "?", "", ".", "", "!"))


def answers_of(key: str, language: Language) -> str:
    """The answer that the guide should give."""
    if key == FOREIGN:
        return Foreign().answers[language]
    return next(intent.answers[language] for intent in intents() if intent.key == key)
