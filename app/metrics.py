"""What one reply took, and what is told of it when it has ended."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from app.asker import Asker
from app.engines.base import ModelInfo
from app.errors import ChatError
from app.pauses import Pauses

Outcome = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class ReplyMetrics:
    """What one reply took. Times in seconds, sizes in tokens; None: not known.

    Attributes:
        total_seconds: from the question to the end of the reply.
        queue_seconds: of it, waiting for a slot; 0: it was refused before.
        first_token_seconds: from the question to the first piece of text.
        load_seconds, prompt_seconds, generation_seconds: the engine's three phases.
        prompt_tokens, cached_tokens, reply_tokens: as the engine counted them.
        estimated: the engine did not count the reply; `reply_tokens` is our estimate.
        characters: length of the answer.
        context_used, context_length: prompt and reply together, and what the model has room for.
    """

    outcome: Outcome
    total_seconds: float
    queue_seconds: float
    first_token_seconds: float | None
    load_seconds: float
    prompt_seconds: float
    generation_seconds: float
    prompt_tokens: int | None
    cached_tokens: int | None
    reply_tokens: int
    estimated: bool
    characters: int
    context_used: int
    context_length: int

    @property
    def read_tokens(self) -> int:
        """Tokens of the prompt; where the engine did not count them, the estimate that the window was made with."""
        return self.context_used - self.reply_tokens

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of the generation."""
        if self.reply_tokens < 2 or self.generation_seconds <= 0:
            return None
        return self.reply_tokens / self.generation_seconds

    def as_dict(self) -> dict[str, Any]:
        """All fields and `tokens_per_second`, for JSON."""
        return asdict(self) | {"tokens_per_second": self.tokens_per_second}

    def summary(self) -> str:
        """A line for the log."""
        first, speed = self.first_token_seconds, self.tokens_per_second
        return (
            f"{self.total_seconds:.2f} s, waited {self.queue_seconds:.2f} s, "
            f"first token {'-' if first is None else f'{first:.2f} s'}, prompt {self.prompt_tokens or '-'}, "
            f"reply {self.reply_tokens} tokens, {'-' if speed is None else f'{speed:.1f}'} tok/s, "
            f"context {self.context_used}/{self.context_length}"
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """A reply that has ended, whichever way: what the log and the figures are made of.

    Attributes:
        asker: who asked.
        model: that answered; None: it never came to one.
        question, answer: what was said.
        left_out: turns of the conversation that the model no longer read.
        error: why it failed, if it did.
        cut: whether it is the first without some of them.
        pauses: between the pieces of the answer; None: they were not seen.
    """

    asker: Asker
    model: ModelInfo | None
    question: str
    answer: str
    metrics: ReplyMetrics
    left_out: int = 0
    error: ChatError | None = None
    cut: bool = False
    pauses: Pauses | None = None
