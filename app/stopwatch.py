"""Times one reply."""

from __future__ import annotations

from collections.abc import Callable

from app.engines.base import Usage
from app.metrics import Outcome, ReplyMetrics
from app.pauses import Pauses


class Stopwatch:
    """Runs from the question on.

    Args:
        clock: seconds, monotonic.

    Attributes:
        pieces: that have come from the model.
        pauses: between these.
        usage: as the engine has told it in the end; None: it has not.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._joined = False
        self._admitted: float | None = None
        self._first: float | None = None
        self._last = 0.0
        self.pieces = 0
        self.pauses = Pauses()
        self.usage: Usage | None = None

    def join(self) -> None:
        """It has a place in the queue. What is refused before has not waited."""
        self._joined = True

    def admit(self) -> None:
        """It has waited for its turn until now."""
        self._admitted = self._clock()

    def come(self) -> None:
        """A piece has come."""
        now = self._clock()
        if self._first is None:
            self._first = now
        else:
            self.pauses.add(now - self._last)
        self._last = now
        self.pieces += 1

    @property
    def written(self) -> int:
        """Tokens that have come. Engines send a piece of text for each, as good as always."""
        counted = self.usage.reply_tokens if self.usage else None
        return self.pieces if counted is None else counted

    def metrics(self, outcome: Outcome, *, sent: int, characters: int, context_length: int) -> ReplyMetrics:
        """What it took, until now.

        Args:
            outcome: how it has ended.
            sent: tokens of its prompt, where the engine has not counted them.
            characters, context_length: see `ReplyMetrics`.
        """
        now, usage = self._clock(), self.usage
        admitted, first = self._admitted or now, self._first or now
        prompt = usage.prompt_tokens if usage else None
        return ReplyMetrics(
            outcome=outcome,
            total_seconds=now - self._began,
            queue_seconds=admitted - self._began if self._joined else 0.0,
            first_token_seconds=None if self._first is None else self._first - self._began,
            load_seconds=usage.load_seconds if usage else 0.0,
            prompt_seconds=usage.prompt_seconds if usage else first - admitted,
            generation_seconds=usage.generation_seconds if usage else now - first,
            prompt_tokens=prompt,
            cached_tokens=usage.cached_tokens if usage else None,
            reply_tokens=self.written,
            estimated=usage is None or usage.reply_tokens is None,
            characters=characters,
            context_used=(sent if prompt is None else prompt) + self.written,
            context_length=context_length,
        )
