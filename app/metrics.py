"""ReplyMetrics: what one reply took; and the series that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

Outcome = Literal["finished", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class ReplyMetrics:
    """What one reply took. Times in seconds, sizes in tokens; None: not known.

    Attributes:
        total_seconds: from the question to the end of the reply.
        queue_seconds: of it, waiting for a slot.
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


@dataclass(frozen=True, slots=True)
class _Storage(Collector):
    """How the storage does, looked up when it is asked for."""

    unsaved: Callable[[], int]
    lost: Callable[[], int]
    up: Callable[[], bool]

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "chainlit_ollama_unsaved_writes", "Writes that wait in memory to be stored.", self.unsaved()
        )
        yield CounterMetricFamily("chainlit_ollama_lost_writes", "Writes that could not be kept.", self.lost())
        yield GaugeMetricFamily("chainlit_ollama_database_up", "1 if the database takes writes, else 0.", self.up())


@dataclass(frozen=True, slots=True)
class _ReadAhead(Collector):
    """What was read ahead, looked up when it is asked for."""

    tokens: Callable[[], int]
    seconds: Callable[[], float]

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "chainlit_ollama_read_ahead_tokens", "Tokens read before the message that needs them.", self.tokens()
        )
        yield CounterMetricFamily(
            "chainlit_ollama_read_ahead_seconds", "Seconds that engines spent on that.", self.seconds()
        )


def watch_reading_ahead(
    registry: CollectorRegistry, *, tokens: Callable[[], int], seconds: Callable[[], float]
) -> None:
    """Add the series of reading ahead to a registry.

    Args:
        registry: what `/metrics` shows.
        tokens, seconds: since the start.
    """
    registry.register(_ReadAhead(tokens, seconds))


def watch_storage(
    registry: CollectorRegistry, *, unsaved: Callable[[], int], lost: Callable[[], int], up: Callable[[], bool]
) -> None:
    """Add the storage's series to a registry.

    Args:
        registry: what `/metrics` shows.
        unsaved: how many writes wait.
        lost: how many were not kept since the start.
        up: whether the database takes writes.
    """
    registry.register(_Storage(unsaved, lost, up))
