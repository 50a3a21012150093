"""How fast each model has been on this machine, and what that says about the next request."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from statistics import median
from typing import Final

from app.engines.base import Usage

# Kept per model: enough to shrug off one odd reply, few enough to follow a machine whose load changes.
_KEPT: Final = 9
# Below this a reading or a reply is too short to time.
_MIN_TOKENS: Final = 16
_MIN_SECONDS: Final = 0.001


@dataclass(frozen=True, slots=True)
class Speed:
    """Speeds of one model. The defaults are gemma2:2b on two cores, where a new server has nothing better to go by.

    Attributes:
        prompt: prompt tokens read per second.
        generation: reply tokens per second.
        load_seconds: time to bring the model into memory.
    """

    prompt: float = 55.0
    generation: float = 17.8
    load_seconds: float = 7.5


class SpeedBook:
    """Medians of the last replies' speeds, by model id."""

    def __init__(self) -> None:
        self._prompt: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self._generation: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self._load: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def observe(self, model_id: str, usage: Usage) -> None:
        """Learn from a finished reply. Tokens that came from a cache say nothing about reading speed."""
        read = (usage.prompt_tokens or 0) - (usage.cached_tokens or 0)
        if usage.cached_tokens is None:
            # Ollama does not tell what was cached; a speed far above the known one is a cache hit, not a faster CPU.
            known = self.of(model_id).prompt
            if (
                usage.prompt_seconds > _MIN_SECONDS
                and read / usage.prompt_seconds > 3 * known
                and self._prompt[model_id]
            ):
                read = 0
        if read >= _MIN_TOKENS and usage.prompt_seconds > _MIN_SECONDS:
            self._prompt[model_id].append(read / usage.prompt_seconds)
        if (usage.reply_tokens or 0) >= _MIN_TOKENS and usage.generation_seconds > _MIN_SECONDS:
            self._generation[model_id].append((usage.reply_tokens or 0) / usage.generation_seconds)
        if usage.load_seconds > 0.5:
            self._load[model_id].append(usage.load_seconds)

    def of(self, model_id: str) -> Speed:
        """What is known of a model's speed, the defaults where nothing is."""
        usual = Speed()
        return Speed(
            prompt=median(self._prompt[model_id]) if self._prompt[model_id] else usual.prompt,
            generation=median(self._generation[model_id]) if self._generation[model_id] else usual.generation,
            load_seconds=median(self._load[model_id]) if self._load[model_id] else usual.load_seconds,
        )
