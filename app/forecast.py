"""How long it will take: what a request is expected to need of its engine, and from that when each who waits begins.

Pure arithmetic. What is known of a model's speeds comes from `SpeedBook`, of what need not be read again from `Warmth`.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.engines.speeds import SpeedBook
from app.warmth import Warmth

# What takes longer than it was expected to is taken to need this share of what it has taken still.
_REST: Final = 0.1


@dataclass(frozen=True, slots=True)
class Work:
    """What a request is expected to take of its engine, in seconds.

    Attributes:
        model: by its id: behind another request for the same one there is nothing to load.
    """

    model: str
    loading: float
    reading: float
    writing: float

    @property
    def before_writing(self) -> float:
        """Until its first token."""
        return self.loading + self.reading

    def left(self, passed: float, written: float | None = None) -> float:
        """What of it is still to come.

        Args:
            passed: seconds since the engine was asked.
            written: of them, since the first token came; None: none has come yet, so that it still loads or reads.
        """
        if written is not None:
            return max(self.writing - written, _REST * max(self.writing, written))
        return max(self.before_writing - passed, _REST * max(self.before_writing, passed)) + self.writing


@dataclass(frozen=True, slots=True)
class Request:
    """A request that waits, as far as its work can be known beforehand.

    Attributes:
        speeds: of the models.
        warmth: what the engine holds ready.
        model: by its id.
        conversation: its name.
        first: the turn that its window begins with.
        system: the system prompt before that.
        tokens: its prompt.
        new_tokens: of them, the new message, which is always read.
        max_tokens: bound of its reply.
        loaded: whether the model is in memory, as far as the engine has told.
    """

    speeds: SpeedBook
    warmth: Warmth
    model: str
    conversation: str
    first: int
    system: str
    tokens: int
    new_tokens: int
    max_tokens: int
    loaded: bool

    def held(self) -> int:
        """Tokens of its prompt that the engine is believed to have read already."""
        held = self.warmth.held(self.model, self.conversation)
        if held is None or (held.first, held.system) != (self.first, self.system):
            return 0
        return max(min(held.tokens, self.tokens - self.new_tokens), 0)

    def work(self) -> Work:
        """What it would take now."""
        speed = self.speeds.of(self.model)
        return Work(
            self.model,
            loading=0.0 if self.loaded or self.warmth.tokens(self.model) else speed.load_seconds,
            reading=(self.tokens - self.held()) / speed.prompt,
            writing=min(speed.reply_tokens, self.max_tokens) / speed.generation,
        )


def starts(serving: Sequence[float | None], waiting: Sequence[Work | None], slots: int) -> list[float | None]:
    """Seconds until each of those who wait begins: the slots are played through, in the queue's order.

    Args:
        serving: what is left of each request that is being served; None: not known.
        waiting: what each takes, in the order in which they are served; None: not known.
        slots: how many are served at once.

    Returns:
        For each; None where it depends on what is not known.
    """
    if None in serving:
        return [None] * len(waiting)
    free = sorted(left for left in serving if left is not None)
    # More may be served than there are slots, where slots have gone: nobody begins before one is really free.
    free = [0.0] * (slots - len(free)) + free[max(len(free) - slots, 0) :]
    heapq.heapify(free)
    begins: list[float | None] = []
    model = ""
    for work in waiting:
        begin = heapq.heappop(free)
        begins.append(begin)
        if work is None:
            return begins + [None] * (len(waiting) - len(begins))
        loading = 0.0 if work.model == model else work.loading
        heapq.heappush(free, begin + loading + work.reading + work.writing)
        model = work.model
    return begins
