"""SessionHistory: the messages of one conversation, with edits and regeneration, and the window over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from app.context import Budget, TurnTokens, Walk, Window, walk, window
from app.engines.base import ChatMessage
from app.tokens import Scale


@dataclass(slots=True)
class StoredMessage:
    """A message of the conversation.

    Attributes:
        id: the page's or the API's own.
        text: what was written; of a reply the answer alone, without its reasoning.
        tokens: its size by model id, where an engine has told it.
    """

    id: str
    text: str
    tokens: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Turn:
    """A question and what was answered; no answer yet, or none came: the model does not read this turn."""

    question: StoredMessage
    answer: StoredMessage | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one request sends, and how it was cut.

    Attributes:
        messages: the model reads them, oldest first.
        window: the cut.
        stored: the messages of the conversation in the window, in order, the new question last.
        base: tokens of the system prompt and the template, as counted in the window.
    """

    messages: tuple[ChatMessage, ...]
    window: Window
    stored: tuple[StoredMessage, ...]
    base: int


class SessionHistory:
    """One conversation.

    Attributes:
        conversation: its name, the same in every process.
        seen_left_out: how many turns had left the window when the last prompt was made.
    """

    def __init__(self, conversation: str, turns: list[Turn] | None = None) -> None:
        self.conversation = conversation
        self._turns = turns or []
        self._places = {turn.question.id: place for place, turn in enumerate(self._turns)}
        self.seen_left_out = 0
        self._sizes: dict[str, list[TurnTokens]] = {}
        self._walks: dict[str, tuple[Budget, Walk]] = {}
        # By model: how many turns it was taught, and the scale; the scale's step that the sizes were made by.
        self._scales: dict[str, tuple[int, Scale]] = {}
        self._sized_by: dict[str, int | None] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self._turns)

    @property
    def last(self) -> Turn | None:
        return self._turns[-1] if self._turns else None

    def ask(self, question: StoredMessage) -> Sequence[Turn]:
        """A new question; one with a known id replaces that question and everything after it (an edit).

        Returns:
            The turns that it replaces.
        """
        place = self._places.get(question.id, len(self._turns))
        replaced = self._turns[place:]
        self._forget_from(place)
        self._places[question.id] = place
        self._turns.append(Turn(question))
        return replaced

    def take_back(self, replaced: Sequence[Turn]) -> None:
        """Undo the last `ask`: what it replaced stands again."""
        self._forget_from(len(self._turns) - 1)
        for turn in replaced:
            self._places[turn.question.id] = len(self._turns)
            self._turns.append(turn)

    def question(self, question_id: str) -> StoredMessage | None:
        """The question of that id, if it stands here."""
        place = self._places.get(question_id)
        return None if place is None else self._turns[place].question

    def answer(self, question_id: str, answer: StoredMessage) -> None:
        """What was written for a question, if that question still stands."""
        place = self._places.get(question_id)
        if place is not None:
            self._turns[place].answer = answer

    def _forget_from(self, index: int) -> None:
        for turn in self._turns[index:]:
            self._places.pop(turn.question.id, None)
        del self._turns[index:]
        for sizes in self._sizes.values():
            del sizes[index:]
        self._walks = {model: kept for model, kept in self._walks.items() if kept[1].turns <= index}
        self._scales = {model: kept for model, kept in self._scales.items() if kept[0] <= index}

    def scale(self, model_id: str, count: Callable[[str], int]) -> Scale:
        """What the finished turns have shown of the model's token counts; only those that are new are looked at.

        Args:
            model_id: whose counts.
            count: tokens of a text, not scaled.
        """
        taught, scale = self._scales.get(model_id, (0, Scale()))
        for turn in self._turns[taught:-1]:
            for message in filter(None, (turn.question, turn.answer)):
                if model_id in message.tokens:
                    scale.learn(count(message.text), message.tokens[model_id])
        self._scales[model_id] = (max(len(self._turns) - 1, 0), scale)
        if self._sized_by.get(model_id) != scale.step:
            # Sizes that are estimates are made anew: they are the same as in a process that has just begun.
            self._sized_by[model_id] = scale.step
            self._forget_sizes(model_id)
        return scale

    def _forget_sizes(self, model_id: str) -> None:
        self._sizes.pop(model_id, None)
        self._walks.pop(model_id, None)

    def prompt(self, system: str, model_id: str, budget: Budget, estimate: Callable[[str], int]) -> Prompt:
        """The prompt for the last question, which has no answer yet.

        Args:
            system: the system prompt, may be empty.
            model_id: whose counts are used.
            budget: how the context is shared out.
            estimate: tokens of a message that this model has not counted yet.

        Raises:
            MessageTooLong, SystemPromptTooLong: the question alone does not fit.
        """
        question = self._turns[-1].question
        sizes = self._sizes_of(model_id, estimate)
        known, at = self._walks.get(model_id, (budget, Walk()))
        at = walk(sizes, budget, at if known == budget else None)
        self._walks[model_id] = (budget, at)
        cut = window(sizes, _size(question, model_id, estimate), budget, at)
        stored = [
            message
            for turn in self._turns[cut.first : -1]
            if turn.answer is not None
            for message in (turn.question, turn.answer)
        ]
        roles = [ChatMessage("system", system)] if system else []
        roles += [ChatMessage("assistant" if i % 2 else "user", message.text) for i, message in enumerate(stored)]
        roles.append(ChatMessage("user", question.text))
        return Prompt(tuple(roles), cut, (*stored, question), budget.base)

    def _sizes_of(self, model_id: str, estimate: Callable[[str], int]) -> list[TurnTokens]:
        """Sizes of all turns but the last. Only turns that are new since the last call are looked at."""
        sizes = self._sizes.setdefault(model_id, [])
        for turn in self._turns[len(sizes) : -1]:
            answered = turn.answer is not None
            sizes.append(
                TurnTokens(_size(turn.question, model_id, estimate), _size(turn.answer, model_id, estimate))
                if answered and turn.answer is not None
                else TurnTokens(0, 0)
            )
        return sizes

    def learn(
        self, prompt: Prompt, model_id: str, exact: int, estimate: Callable[[str], int]
    ) -> list[tuple[StoredMessage, int]]:
        """The engine has counted a prompt: give the messages whose size it had not told yet their share.

        Args:
            prompt: what was sent.
            model_id: by which model.
            exact: its count of the whole prompt, in tokens.
            estimate: as in `prompt`.

        Returns:
            The messages whose size is now known, with that size.
        """
        new = [message for message in prompt.stored if model_id not in message.tokens]
        left = exact - prompt.base - sum(m.tokens[model_id] for m in prompt.stored if model_id in m.tokens)
        guesses = [estimate(message.text) for message in new]
        whole = sum(guesses)
        for message, guess in zip(new, guesses, strict=True):
            share = max(round(left * guess / whole), 1) if whole else 1
            left, whole = left - share, whole - guess
            message.tokens[model_id] = share
        if len(new) > 1 or (new and new[0] is not prompt.stored[-1]):
            # Older turns had been estimated: their sizes are read anew, and the walk over them starts again.
            self._forget_sizes(model_id)
            self._scales.pop(model_id, None)
        return [(message, message.tokens[model_id]) for message in new]


def _size(message: StoredMessage, model_id: str, estimate: Callable[[str], int]) -> int:
    return message.tokens.get(model_id) or estimate(message.text)
