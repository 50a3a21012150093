"""How much of a conversation the model reads: the window, a pure function of token counts.

The rule. Walk the conversation from its first turn. A turn joins the window while everything fits below the high-water
mark; when it does not, the oldest whole turns leave until what stays is at or under the low-water mark, and the walk
goes on. When a turn ends and too little room is left for an ordinary next message, the cut is made right then, so that
it is known before that message comes.

So the window depends on the conversation alone, the same in every process; between two cuts each prompt extends the one
before, and the engine's key-value cache stays valid. A window that slides by one turn each time would make a CPU read
thousands of tokens again for every message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import ConversationTooLong, MessageTooLong, ReplyTooLong, SystemPromptTooLong

# An ordinary next message is taken to need at most this share of the room for a conversation.
_NEXT_MESSAGE_SHARE: Final = 8
# A reply is promised at most this share of the context; a longer one is bounded by what is really left.
_REPLY_SHARE: Final = 4
# Going on with a reply needs at least this share of the room that is kept free for one.
_REST_SHARE: Final = 4


@dataclass(frozen=True, slots=True)
class TurnTokens:
    """Size of one question and its answer, in tokens, the chat template's own included."""

    question: int
    answer: int

    @property
    def total(self) -> int:
        return self.question + self.answer


@dataclass(frozen=True, slots=True)
class Budget:
    """How the context is shared out. All in tokens.

    Attributes:
        context: the context length: prompt and reply together.
        reply: kept free for the reply.
        base: system prompt and what the chat template adds once.
        low_share: share of `high` that stays when older turns leave, in (0, 1).
    """

    context: int
    reply: int
    base: int
    low_share: float = 0.5

    @classmethod
    def of(cls, context: int, max_tokens: int, base: int, low_share: float) -> Budget:
        """The budget of a model with `context` tokens for replies of up to `max_tokens`."""
        return cls(context, min(max_tokens, context // _REPLY_SHARE), base, low_share)

    @property
    def high(self) -> int:
        """The high-water mark: what the conversation may take."""
        return max(self.context - self.reply - self.base, 0)

    @property
    def low(self) -> int:
        """The low-water mark: what stays of the conversation after a cut."""
        return int(self.high * self.low_share)

    def goes_on(self, tokens: int) -> bool:
        """Whether a reply can go on: `tokens` of its question and of the reply so far leave room for more."""
        return self.base + tokens + self.reply // _REST_SHARE <= self.context

    @property
    def next_message(self) -> int:
        """Room that an ordinary next message needs."""
        return self.high // _NEXT_MESSAGE_SHARE


@dataclass(frozen=True, slots=True)
class Walk:
    """How far the walk has come: `turns` walked, the window starts at turn `first` and holds `used` tokens."""

    turns: int = 0
    first: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class Window:
    """What the model reads: the turns from `first` on, and the new question.

    Attributes:
        first: index of the oldest turn in the window; so many turns have left it.
        tokens: size of the whole prompt.
        reply: tokens that are left for the reply.
    """

    first: int
    tokens: int
    reply: int


def walk(turns: Sequence[TurnTokens], budget: Budget, start: Walk | None = None) -> Walk:
    """Walk over finished turns.

    Args:
        turns: the whole conversation, oldest first.
        budget: how the context is shared out.
        start: a walk over a beginning of the same turns with the same budget, to go on from; it only saves time.
    """
    at = start or Walk()
    first, used = at.first, at.used
    for index in range(at.turns, len(turns)):
        turn = turns[index]
        if used + turn.question > budget.high:
            first, used = _drop(turns, first, index, used, budget.low - turn.question)
        used += turn.total
        if used + budget.next_message > budget.high:
            first, used = _drop(turns, first, index, used, budget.low)
            if used + budget.next_message > budget.high:  # the last turn alone is too much: it leaves as well
                first, used = index + 1, 0
    return Walk(len(turns), first, used)


def window(turns: Sequence[TurnTokens], question: int, budget: Budget, start: Walk | None = None) -> Window:
    """What the model reads for a new question.

    Args:
        turns: the finished turns, oldest first.
        question: size of the new message, in tokens.
        budget: how the context is shared out.
        start: see `walk`.

    Raises:
        MessageTooLong: the new message alone does not fit.
        SystemPromptTooLong: it would fit, were it not for a system prompt that is larger than the message.
    """
    _check(question, budget)
    at = walk(turns, budget, start)
    first, used = at.first, at.used
    if used + question > budget.high:
        first, used = _drop(turns, first, len(turns), used, budget.low - question)
    prompt = budget.base + used + question
    return Window(first, prompt, budget.context - prompt)


def window_going_on(
    turns: Sequence[TurnTokens], question: int, answer: int, budget: Budget, start: Walk | None = None
) -> Window:
    """What the model reads to go on with an answer: the window of its question, as long as that leaves some room, so
    that the engine has nothing to read anew; else older turns leave.

    Args:
        turns, question, budget, start: as in `window`, for the question.
        answer: size of the answer so far, in tokens.

    Raises:
        ReplyTooLong: question and answer alone leave no room.
    """
    if not budget.goes_on(question + answer):
        raise ReplyTooLong
    at = walk(turns, budget, start)
    first, used = at.first, at.used
    if used + question > budget.high:
        first, used = _drop(turns, first, len(turns), used, budget.low - question)
    if not budget.goes_on(used + question + answer):
        first, used = _drop(turns, first, len(turns), used, budget.low - question - answer)
    prompt = budget.base + used + question + answer
    return Window(first, prompt, budget.context - prompt)


def whole(turns: Sequence[TurnTokens], question: int, budget: Budget) -> Window:
    """The window of a conversation that must not be cut.

    Raises:
        MessageTooLong, SystemPromptTooLong: the new message alone does not fit.
        ConversationTooLong: together they do not.
    """
    _check(question, budget)
    used = sum(turn.total for turn in turns) + question
    if used > budget.high:
        raise ConversationTooLong(tokens=used, limit=budget.high)
    return Window(0, budget.base + used, budget.context - budget.base - used)


def _check(question: int, budget: Budget) -> None:
    if question > budget.high:
        if budget.base > question and question <= budget.context - budget.reply:
            raise SystemPromptTooLong(tokens=budget.base, left=budget.high, needed=question)
        raise MessageTooLong(tokens=question, limit=budget.high)


def _drop(turns: Sequence[TurnTokens], first: int, end: int, used: int, limit: int) -> tuple[int, int]:
    """Drop the oldest of turns[first:end] until at most `limit` tokens stay, or none of them is left."""
    while first < end and used > limit:
        used -= turns[first].total
        first += 1
    return first, used
