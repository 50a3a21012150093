"""Conversations to train on, written by chance from a seed.

The questions of `evaluation/` are never among them, in whatever order of words: see `held_out`. A test holds that the
knowledge has none that shares three quarters of its words with one of them.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NotRequired, TypedDict

from training.guide.knowledge import FOREIGN, LANGUAGES, Foreign, Intent, Language, answers, intents
from training.guide.noise import Noise
from training.guide.tokenizer import levelled

if TYPE_CHECKING:
    from training.guide.teacher import Teacher

EVALUATION: Final = Path(__file__).parent / "evaluation"


class Message(TypedDict):
    """As chat templates take it. Under a teacher also, of an answer, `shares`: all that might be answered instead,
    itself among them, and how likely each is; of a question, `foreseen`: the same for its beginnings, by the number of
    their words, spaces between them, once it is `levelled`."""

    role: str
    content: str
    shares: NotRequired[dict[str, float]]
    foreseen: NotRequired[dict[int, dict[str, float]]]


_TOGETHER: Final = 128  # conversations that are written at once
_FORESEEN_FROM: Final = 2  # words of a question; one alone asks for hardly anything

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
    """What conversations are made of: how often a question is about something else, is in Russian, a system prompt
    comes first, the language is drawn anew for the next turn; the numbers of turns to choose from. And, if a teacher is
    there to say what each asks for: how often a question is spliced of two, and how many beginnings of it are labelled
    as well."""

    foreign: float = 0.35
    russian: float = 0.5
    system: float = 0.1
    other_language: float = 0.15
    turns: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3)
    spliced: float = 0.3
    foreseen: int = 8


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
    """The words of a text in alphabetical order, signs left out and ё as е; two alike ask the same."""
    return tuple(sorted(re.sub(r"[^\w\s`:/.=-]", " ", text.lower().replace("ё", "е")).split()))


@dataclass(frozen=True, slots=True)
class _Turn:
    """A question, and what it was written to ask for."""

    key: str
    language: Language
    text: str


@dataclass(frozen=True, slots=True)
class _Draft:
    """A conversation without its answers."""

    system: str
    turns: list[_Turn]


class Writer:
    """Writes conversations.

    Args:
        seed: two writers of one seed write the same, under one teacher.
        mix: what the conversations are made of.
        teacher: says what is answered, also to questions that are spliced of two, and to beginnings; without one each
            question has the answer that it was written to ask for, none is spliced, and no beginning has an answer.
    """

    def __init__(self, seed: int, mix: Mix | None = None, teacher: Teacher | None = None) -> None:
        self._chance = random.Random(seed)
        self._mix = mix or Mix()
        self._teacher = teacher
        self._intents = intents()
        self._foreign = Foreign()
        self._answers = answers()
        self._noise = Noise(self._chance)
        self._held_out = {bag(question.text) for question in held_out()}

    def reseed(self, seed: int | str) -> None:
        """From here on write what this seed gives. Take `conversations` anew: some of the old are written ahead."""
        self._chance.seed(seed)

    def conversations(self) -> Iterator[list[Message]]:
        """One after the other, without end: of one to eight turns, mostly in one language."""
        while True:
            # The teacher is much faster with many questions at once.
            yield from self._answered([self._draft() for _ in range(_TOGETHER)])

    def _draft(self) -> _Draft:
        chance = self._chance
        system = chance.choice(_SYSTEM) if chance.random() < self._mix.system else ""
        language = self._language()
        turns = []
        for _ in range(chance.choice(self._mix.turns)):
            if chance.random() < self._mix.other_language:
                language = self._language()
            turns.append(self._turn(language))
        return _Draft(system, turns)

    def _language(self) -> Language:
        return "ru" if self._chance.random() < self._mix.russian else "en"

    def _turn(self, language: Language) -> _Turn:
        while True:
            key, text = self._question(language)
            if self._teacher and self._chance.random() < self._mix.spliced:
                text = spliced(text, self._question(language)[1], self._chance)
            asked = self._noise(text, language)
            if bag(text) not in self._held_out and bag(asked) not in self._held_out:
                return _Turn(key, language, self._noise.dress(asked))

    def _question(self, language: Language) -> tuple[str, str]:
        """The key of an answer, and a question that asks for it, none of those for evaluation."""
        while True:
            key, text = self._drawn(language)
            if bag(text) not in self._held_out:
                return key, text

    def _drawn(self, language: Language) -> tuple[str, str]:
        if self._chance.random() < self._mix.foreign:
            return FOREIGN, self._foreign.question(language, self._chance)
        intent: Intent = self._chance.choice(self._intents)
        return intent.key, intent.ways[language].question(self._chance)

    def _answered(self, drafts: list[_Draft]) -> Iterator[list[Message]]:
        turns = [turn for draft in drafts for turn in draft.turns]
        exchanges = iter(self._taught(self._teacher, turns) if self._teacher else map(self._plain, turns))
        for draft in drafts:
            messages: list[Message] = [{"role": "system", "content": draft.system}] if draft.system else []
            for _ in draft.turns:
                messages += next(exchanges)
            yield messages

    def _plain(self, turn: _Turn) -> list[Message]:
        answer = self._answers[turn.key, turn.language]
        return [{"role": "user", "content": turn.text}, {"role": "assistant", "content": answer}]

    def _taught(self, teacher: Teacher, turns: list[_Turn]) -> Iterator[list[Message]]:
        begun = [self._beginnings(turn) for turn in turns]
        said = iter(self._said(teacher, [*turns, *chain.from_iterable(some.values() for some in begun)]))
        for turn, shares, beginnings in zip(turns, list(islice(said, len(turns))), begun, strict=True):
            (drawn,) = self._chance.choices(list(shares), list(shares.values()))
            foreseen = {size: next(said) for size in beginnings}
            yield [
                {"role": "user", "content": turn.text, "foreseen": foreseen},
                {"role": "assistant", "content": drawn, "shares": shares},
            ]

    def _beginnings(self, turn: _Turn) -> dict[int, _Turn]:
        """Beginnings of a question by their number of words, none of those for evaluation."""
        words = levelled(turn.text).split(" ")
        sizes = range(_FORESEEN_FROM, len(words))
        drawn = self._chance.sample(sizes, min(self._mix.foreseen, len(sizes)))
        found = {size: replace(turn, text=" ".join(words[:size])) for size in drawn}
        return {size: one for size, one in found.items() if bag(one.text) not in self._held_out}

    def _said(self, teacher: Teacher, turns: list[_Turn]) -> list[dict[str, float]]:
        """The answers that the teacher would give to each, in its language, and how likely each is."""
        found: dict[int, dict[str, float]] = {}
        for language in LANGUAGES:
            places = [place for place, turn in enumerate(turns) if turn.language == language]
            taught = teacher.shares([turns[place].text for place in places], language)
            for place, keys in zip(places, taught, strict=True):
                found[place] = {self._answers[key, language]: share for key, share in keys.items()}
        return [found[place] for place in range(len(turns))]


def spliced(one: str, other: str, chance: random.Random) -> str:
    """The first words of one question and the last of another; never none."""
    first, last = one.split(), other.split()
    words = first[: chance.randint(0, len(first))] + last[chance.randint(0, len(last)) :]
    return " ".join(words) or one
