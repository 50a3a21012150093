"""Who comes when, and asks what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from bench.load.attempt import Way

# Questions of an ordinary length; the built-in guide knows the answers.
QUESTIONS: Final = (
    "How do I run it?",
    "What is the temperature, and which one should I choose for a short factual answer?",
    "How do I choose a model?",
    "Why is it slow on my server, and what can I do about it without buying another one?",
    "What is Ollama?",
    "How do I keep my conversations when I update the container?",
)


class LoadError(Exception):
    """The load cannot be put on that server; says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        url: of the server, without a slash at its end.
        visitors: how many there are.
        ways: how they come, in turn.
        requests: of each visitor.
        duration: seconds after which nobody asks any more; None: as long as it takes.
        think: mean of the seconds between a reply and the next question; they are distributed exponentially.
        arrive: seconds within which the visitors come, at random; 0: all at once.
        long: whether a visitor's questions make one conversation.
        model: who answers; empty: the server's default on the page, the first of its list over /v1.
        tokens: keys for /v1; visitors have them in turn.
        login: name and password for the page, where it wants them.
        questions: what is asked, in turn.
        numbered: whether each question begins with words that no other has, so that no cache knows it.
        patience: seconds after which a request without an end has failed.
        seed: of all that is random.
    """

    url: str
    visitors: int = 10
    ways: tuple[Way, ...] = ("page", "v1")
    requests: int | None = 3
    duration: float | None = None
    think: float = 10.0
    arrive: float = 0.0
    long: bool = False
    model: str = ""
    tokens: tuple[str, ...] = field(default=(), repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)
    questions: Sequence[str] = QUESTIONS
    numbered: bool = False
    patience: float = 600.0
    seed: int = 1

    def way(self, visitor: int) -> Way:
        """How that visitor comes."""
        return self.ways[visitor % len(self.ways)]

    def token(self, visitor: int) -> str | None:
        """That visitor's key."""
        return self.tokens[visitor // len(self.ways) % len(self.tokens)] if self.tokens else None

    def question(self, visitor: int, turn: int) -> str:
        """What that visitor asks then."""
        question = self.questions[(visitor + turn) % len(self.questions)]
        return f"Visitor {visitor}, question {turn}: {question}" if self.numbered else question

    def arrivals(self) -> list[float]:
        """When each visitor comes, in seconds."""
        chance = Random(self.seed)
        return sorted(chance.uniform(0, self.arrive) for _ in range(self.visitors))

    def pauses(self, visitor: int) -> Random:
        """That visitor's own chance."""
        return Random(f"{self.seed}:{visitor}")

    def goes_on(self, turn: int, seconds: float) -> bool:
        """Whether a visitor who has asked so often asks again, so many seconds after the beginning."""
        if self.duration is not None and seconds >= self.duration:
            return False
        return self.requests is None or turn < self.requests
