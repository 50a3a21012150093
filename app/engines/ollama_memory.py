"""What an Ollama is believed to hold in memory, so that not every request has to ask first."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Final

from app.engines.base import CompletionRequest
from app.engines.ollama_request import offered
from app.errors import EngineError, EngineRefused

# A model that answered this recently is taken to be in memory still. In seconds.
_TRUSTED: Final = 30.0

# A model's name and the num_ctx it was asked for: another num_ctx loads the model again.
Load = tuple[str, int]

# A part of a prompt: a role, `tools` or `raw`, and its text.
Part = tuple[str, str]


def parts_of(request: CompletionRequest) -> tuple[Part, ...]:
    """What the model reads, in its order. Functions stand at the beginning, where most templates put them."""
    if request.raw:
        return (("raw", request.messages[-1].content),)
    tools = offered(request)
    first = (("tools", json.dumps(tools, ensure_ascii=False)),) if tools else ()
    said = (
        (m.role, m.content + "".join(f"{call.name}{call.arguments}" for call in m.tool_calls)) for m in request.messages
    )
    return (*first, *said)


class Memory:
    """The last load that was used, and the conversation that its key-value cache holds.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._load: Load | None = None
        self._seen_at = 0.0
        self._held: tuple[Part, ...] = ()
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

    def answered(self, load: Load, prompt: Sequence[Part]) -> None:
        """The model has read a prompt and begun, or ended, its reply to it."""
        self._doubted.discard(load[0])
        self._load, self._seen_at, self._held = load, self._clock(), tuple(prompt)

    def gone(self, load: Load) -> None:
        """Ollama does not list it any more: what its cache held is lost."""
        if load == self._load:
            self._load, self._held = None, ()

    def embedded(self, model: str) -> None:
        """`model` was asked for vectors: another one may have been unloaded for that, and its own cache holds other
        text now."""
        self._seen_at = -math.inf
        if self._load is not None and self._load[0] == model:
            self._held = ()

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

    def unread(self, load: Load, prompt: Sequence[Part]) -> float:
        """Share of a prompt, by characters, that is not in the key-value cache and has to be read, 0 to 1.

        What is common at the beginning need not be read. After a prompt that was read whole comes the reply that was
        written to it, which the cache holds too.
        """
        total = sum(len(text) for _, text in prompt)
        if load != self._load or not self._held or not total:
            return 1.0
        known = 0
        for part, held in zip(prompt, (*self._held, None), strict=False):
            if part == held or (held is None and part[0] == "assistant"):
                known += len(part[1])
                continue
            if held is not None and part[0] == held[0] == "raw":
                pairs = zip(part[1], held[1], strict=False)
                known += sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            break
        return 1.0 - known / total
