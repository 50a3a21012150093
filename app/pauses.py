"""The pauses between the pieces of a reply: an even flow, or one that stutters."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

# Seconds; about vLLM's own of inter_token_latency_seconds, with one more below for small models.
BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 20, 40, 80)


class Pauses:
    """Counts them by their length, so that a long reply takes no more memory than a short one.

    Attributes:
        counts: how many are at most as long as each of `BOUNDS` and longer than the one before; the last: longer than
            all of them.
        seconds: all of them together.
    """

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """There was one of that length."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def __add__(self, others: Pauses) -> Pauses:
        both = Pauses()
        both.counts = [mine + theirs for mine, theirs in zip(self.counts, others.counts, strict=True)]
        both.seconds = self.seconds + others.seconds
        return both
