"""What an Ollama is believed to hold in memory, so that not every request has to ask first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from app.engines.base import ChatMessage
from app.errors import EngineError, EngineRefused

# A model that answered this recently is taken to be in memory still. In seconds.
_TRUSTED: Final = 30.0

# A model's name and the num_ctx it was asked for: another num_ctx loads the model again.
Load = tuple[str, int]


class Memory:
    """The last load that was used, and the conversation that its key-value cache holds.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._load: Load | None = None
        self._seen_at = 0.0
        self._held: tuple[ChatMessage, ...] = ()
        self._doubted: set[str] = set()
        self._loading: Counter[Load] = Counter()

    def trusts(self, load: Load) -> bool:
        """Whether it is in memory as far as anybody can know without asking."""
        return load == self._load and self._clock() - self._seen_at < _TRUSTED

    def must_load(self, load: Load) -> bool:
        """Whether it has to be loaded whatever Ollama says.

        Ollama goes on listing a model whose process died (recorded), and lists one that is still being loaded.
        """
        return load[0] in self._doubted or self._loading[load] > 0

    @contextmanager
    def loading(self, load: Load) -> Iterator[None]:
        """Marks a load as under way; once it has worked, the model is in memory with nothing read."""
        self._loading[load] += 1
        try:
            yield
        finally:
            self._loading[load] -= 1
        self._doubted.discard(load[0])
        if load != self._load:
            self._held = ()
        self._load, self._seen_at = load, self._clock()

    def answered(self, load: Load, messages: Sequence[ChatMessage]) -> None:
        """The model has read `messages` and begun, or ended, its reply to them."""
        self._doubted.discard(load[0])
        self._load, self._seen_at, self._held = load, self._clock(), tuple(messages)

    @contextmanager
    def doubting(self, load: Load) -> Iterator[None]:
        """A failure within, other than a refusal, may mean that the model is dead: it has to be loaded again."""
        try:
            yield
        except EngineRefused:
            raise
        except EngineError:
            self._doubted.add(load[0])
            if load == self._load:
                self._load, self._held = None, ()
            raise

    def unread(self, load: Load, messages: Sequence[ChatMessage]) -> float:
        """Share of a prompt, by characters, that is not in the key-value cache and has to be read, 0 to 1.

        What is common at the beginning need not be read. After a prompt that was read whole comes the reply that was
        written to it, which the cache holds too.
        """
        total = sum(len(message.content) for message in messages)
        if load != self._load or not self._held or not total:
            return 1.0
        known = 0
        for message, held in zip(messages, (*self._held, None), strict=False):
            if message != held and not (held is None and message.role == "assistant"):
                break
            known += len(message.content)
        return 1.0 - known / total
