"""How people type: other words for the same, a polite beginning, a word lost, a slip of the finger, haste."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from training.guide.knowledge import Language, hasty, synonyms

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


# The rows of the keyboards: a finger hits a neighbour.
_KEYS: Final = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю")
_NEIGHBOURS: Final = {
    row[at]: row[max(at - 1, 0) : at] + row[at + 1 : at + 2] for row in _KEYS for at in range(len(row))
}
# Letters that sound alike.
_SOUNDS: Final = (("ться", "тся"), ("тся", "ться"), ("сч", "щ"), ("жи", "жы"), ("ши", "шы"), ("нн", "н"))


@dataclass(frozen=True, slots=True)
class Shares:
    """How often each happens to a question; `reword` is by word."""

    reword: float = 0.25
    lose_word: float = 0.35
    swap_words: float = 0.15
    frame: float = 0.25
    slip: float = 0.3
    second_slip: float = 0.08
    haste: float = 0.2


class Noise:
    """Changes questions by chance so that what they ask for stays.

    Args:
        chance: where all chance comes from.
        shares: how often what happens.
    """

    def __init__(self, chance: random.Random, shares: Shares | None = None) -> None:
        self._chance = chance
        self._shares = shares or Shares()
        self._synonyms = synonyms()
        self._hasty = hasty()

    def __call__(self, text: str, language: Language) -> str:
        text = self._words(self._reword(text, language))
        text = self._frame(text, language)
        if self._often(self._shares.haste):
            text = self._hurry(text, language)
        for share in (self._shares.slip, self._shares.second_slip):
            if self._often(share):
                text = self._slip(text)
        return text

    def dress(self, text: str) -> str:
        """Signs as people put them; the guide's template takes most of them away again."""
        return text + self._chance.choice(("?", "?", "", ".", "", "!"))

    def _reword(self, text: str, language: Language) -> str:
        known = self._synonyms[language]
        words = []
        for word in text.split():
            others = known.get(word)
            words.append(self._chance.choice(others) if others and self._often(self._shares.reword) else word)
        return " ".join(words)

    def _words(self, text: str) -> str:
        """The words count more than their order, and no single one counts for all."""
        words = text.split()
        if len(words) >= 4 and self._often(self._shares.lose_word):
            for _ in range(1 + len(words) // 7):
                del words[self._chance.randrange(len(words))]
        if len(words) >= 3 and self._often(self._shares.swap_words):
            at = self._chance.randrange(len(words) - 1)
            words[at], words[at + 1] = words[at + 1], words[at]
        return " ".join(words)

    def _frame(self, text: str, language: Language) -> str:
        if self._often(self._shares.frame):
            text = self._chance.choice(_BEFORE[language]) + text
        if self._often(self._shares.frame / 2):
            text += self._chance.choice(_AFTER[language])
        return text

    def _hurry(self, text: str, language: Language) -> str:
        """Typed on a phone: short forms, no apostrophes, commas or signs, letters as they sound, one more slip."""
        known = self._hasty[language]
        words = [
            self._chance.choice(known[word]) if word in known and self._often(0.6) else word for word in text.split()
        ]
        text = " ".join(word for word in words if word)
        if self._often(0.7):
            text = text.replace("'", "").replace("’", "").replace(",", "").replace("ё", "е")
        if language == "ru":
            heard, written = self._chance.choice(_SOUNDS)
            text = text.replace(heard, written)
        return self._slip(text)

    def _slip(self, text: str) -> str:
        """A letter lost, doubled, hit beside, or swapped with the next; a space lost; е for ё."""
        if len(text) < 6:
            return text
        at = self._chance.randrange(1, len(text) - 2)
        beside = _NEIGHBOURS.get(text[at], text[at])
        space = text.find(" ", at)
        return self._chance.choice(
            (
                text[:at] + text[at + 1 :],
                text[:at] + text[at] + text[at:],
                text[:at] + text[at + 1] + text[at] + text[at + 2 :],
                text[:at] + self._chance.choice(beside) + text[at + 1 :],
                text[:space] + text[space + 1 :] if space > 0 else text,
                text.replace("ё", "е"),
            )
        )

    def _often(self, share: float) -> bool:
        return self._chance.random() < share
