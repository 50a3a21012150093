"""SessionHistory: the messages of one conversation, with edits and regeneration, and the window over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.context import Budget, TurnTokens, Walk, Window, walk, whole, window, window_going_on
from app.engines.base import ChatMessage, Role, ToolCall
from app.tokens import Scale


@dataclass(slots=True)
class StoredMessage:
    """A message of the conversation.

    Attributes:
        id: the page's or the API's own.
        text: what was written; of a reply the answer alone, without its reasoning.
        tokens: its size by model id, where an engine has told it.
        role: who wrote it.
        tool_calls, tool_call_id, tool_name: as in `ChatMessage`.
    """

    id: str
    text: str
    tokens: dict[str, int] = field(default_factory=dict)
    role: Role = "user"
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""

    @property
    def counted(self) -> str:
        """All of it that a model reads, for an estimate of its size."""
        return self.text + "".join(f"{call.name}{call.arguments}" for call in self.tool_calls)

    def as_read(self) -> ChatMessage:
        """The message as a model reads it."""
        return ChatMessage(self.role, self.text, self.tool_calls, self.tool_call_id, self.tool_name)


@dataclass(slots=True)
class Turn:
    """A question and what was answered.

    Attributes:
        answer: None: not yet, or none came.
        between: what was said after the question and before the answer: functions that the model asked for and what
            they returned. Only programs have such turns.
    """

    question: StoredMessage
    answer: StoredMessage | None = None
    between: tuple[StoredMessage, ...] = ()

    @property
    def asked(self) -> tuple[StoredMessage, ...]:
        """What the model reads before it answers."""
        return (self.question, *self.between)

    @property
    def messages(self) -> tuple[StoredMessage, ...]:
        """All of it that the model reads in later turns: nothing of a question that nobody answered."""
        if self.answer is not None:
            return (*self.asked, self.answer)
        return self.asked if self.between or self.question.role != "user" else ()


def turns_of(messages: Sequence[StoredMessage]) -> list[Turn]:
    """Messages in any order of roles as turns. The last turn is the one to be answered: it has no answer yet.

    A turn begins with a user's message that does not follow another user's; what the assistant said last in it is its
    answer.
    """
    groups: list[list[StoredMessage]] = []
    for message in messages:
        if not groups or (message.role == "user" and groups[-1][-1].role != "user"):
            groups.append([])
        groups[-1].append(message)
    turns = []
    for number, (question, *rest) in enumerate(groups, 1):
        answered = number < len(groups) and bool(rest) and rest[-1].role == "assistant" and not rest[-1].tool_calls
        answer = rest.pop() if answered else None
        turns.append(Turn(question, answer, tuple(rest)))
    return turns


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one request sends, and how it was cut.

    Attributes:
        messages: the model reads them, oldest first.
        left_out: how many messages of the conversation it does not read any more.
        window: the cut.
        stored: the messages of the conversation in the window, in order, the new question last, or the answer that is
            gone on with.
        budget: how the context was shared out.
        asked: tokens of what stays, however much of the conversation is left out: the question, and that answer.
    """

    messages: tuple[ChatMessage, ...]
    left_out: int
    window: Window
    stored: tuple[StoredMessage, ...]
    budget: Budget
    asked: int


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
        self._counted = (0, 0)
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

    @property
    def _open(self) -> int:
        """The place of the turn that is to be answered. A look at the next question may have counted it as finished."""
        return max(len(self._turns) - 1, 0)

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

    @contextmanager
    def next_question(self) -> Iterator[None]:
        """Within, the history stands as if a question had come of which nothing is known yet: an empty one. Nothing may
        be awaited there."""
        replaced = self.ask(StoredMessage("", ""))
        try:
            yield
        finally:
            self.take_back(replaced)

    def question(self, question_id: str) -> StoredMessage | None:
        """The question of that id, if it stands here."""
        place = self._places.get(question_id)
        return None if place is None else self._turns[place].question

    def answer(self, question_id: str, answer: StoredMessage) -> None:
        """What was written for a question, if that question still stands."""
        place = self._places.get(question_id)
        if place is not None:
            self._turns[place].answer = answer
            self._uncount_from(place)

    def _forget_from(self, index: int) -> None:
        for turn in self._turns[index:]:
            self._places.pop(turn.question.id, None)
        del self._turns[index:]
        self._uncount_from(index)

    def _uncount_from(self, index: int) -> None:
        """What is known of the turns from that one on is known anew."""
        if self._counted[0] > index:
            self._counted = (0, 0)
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
        self._uncount_from(self._open)
        taught, scale = self._scales.get(model_id, (0, Scale()))
        for turn in self._turns[taught:-1]:
            for message in filter(None, (*turn.asked, turn.answer)):
                if model_id in message.tokens:
                    scale.learn(count(message.counted), message.tokens[model_id])
        self._scales[model_id] = (self._open, scale)
        if self._sized_by.get(model_id) != scale.step:
            # Sizes that are estimates are made anew: they are the same as in a process that has just begun.
            self._sized_by[model_id] = scale.step
            self._forget_sizes(model_id)
        return scale

    def _forget_sizes(self, model_id: str) -> None:
        self._sizes.pop(model_id, None)
        self._walks.pop(model_id, None)

    def prompt(
        self,
        system: str,
        model_id: str,
        budget: Budget,
        estimate: Callable[[str], int],
        *,
        strict: bool = False,
        begun: StoredMessage | None = None,
    ) -> Prompt:
        """The prompt for the last question, which has no answer yet, or only its beginning.

        Args:
            system: the system prompt, may be empty.
            model_id: whose counts are used.
            budget: how the context is shared out.
            estimate: tokens of a message that this model has not counted yet.
            strict: the conversation is read whole or not at all.
            begun: the answer so far, to be gone on with.

        Raises:
            MessageTooLong, SystemPromptTooLong: the question alone does not fit.
            ReplyTooLong: the question fits with the beginning of its answer, but nothing more does.
            ConversationTooLong: `strict`, and the conversation does not fit.
        """
        self._uncount_from(self._open)
        asked = self._turns[-1].asked
        size = sum(_size(message, model_id, estimate) for message in asked)
        sizes = self._sizes_of(model_id, estimate)
        if strict:
            cut = whole(sizes, size, budget)
        else:
            known, at = self._walks.get(model_id, (budget, Walk()))
            at = walk(sizes, budget, at if known == budget else None)
            self._walks[model_id] = (budget, at)
            if begun is None:
                cut = window(sizes, size, budget, at)
            else:
                answer = _size(begun, model_id, estimate)
                cut = window_going_on(sizes, size, answer, budget, at)
                asked, size = (*asked, begun), size + answer
        stored = [message for turn in self._turns[cut.first : -1] for message in turn.messages]
        stored += asked
        messages = [ChatMessage("system", system)] if system else []
        messages += [message.as_read() for message in stored]
        return Prompt(tuple(messages), self._messages_before(cut.first), cut, tuple(stored), budget, size)

    def _messages_before(self, first: int) -> int:
        """How many messages the turns before that one have. Only those that are new since the last call are counted."""
        place, count = self._counted if self._counted[0] <= first else (0, 0)
        count += sum(len(turn.messages) for turn in self._turns[place:first])
        self._counted = first, count
        return count

    def _sizes_of(self, model_id: str, estimate: Callable[[str], int]) -> list[TurnTokens]:
        """Sizes of all turns but the last. Only turns that are new since the last call are looked at."""
        sizes = self._sizes.setdefault(model_id, [])
        for turn in self._turns[len(sizes) : -1]:
            read = [_size(message, model_id, estimate) for message in turn.messages]
            answer = read.pop() if turn.answer is not None else 0
            sizes.append(TurnTokens(sum(read), answer))
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
        left = exact - prompt.budget.base - sum(m.tokens[model_id] for m in prompt.stored if model_id in m.tokens)
        guesses = [estimate(message.counted) for message in new]
        together = sum(guesses)
        for message, guess in zip(new, guesses, strict=True):
            share = max(round(left * guess / together), 1) if together else 1
            left, together = left - share, together - guess
            message.tokens[model_id] = share
        if len(new) > 1 or (new and new[0] is not prompt.stored[-1]):
            # Older turns had been estimated: their sizes are read anew, and the walk over them starts again.
            self._forget_sizes(model_id)
            self._scales.pop(model_id, None)
        return [(message, message.tokens[model_id]) for message in new]


def _size(message: StoredMessage, model_id: str, estimate: Callable[[str], int]) -> int:
    return message.tokens.get(model_id) or estimate(message.counted)
