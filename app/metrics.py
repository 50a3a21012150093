"""ReplyMetrics: what one reply took."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

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
