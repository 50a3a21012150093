"""Which conversations an engine is believed to hold ready, so that little of them has to be read again.

llama-server, which runs inside Ollama too, keeps the newest conversation in its slot. When another takes the slot, the
one that leaves goes to a cache in memory, out of which the oldest are thrown; for a moment that cache holds both the
one that leaves and the one that comes back (measured: it has to have room for both).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

# So many conversations are remembered, where the room of the engine's cache is not known.
_MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of a conversation: its first `tokens`, with the system prompt and the conversation's messages from
    turn `first` on."""

    tokens: int
    first: int
    system: str = ""


class Warmth:
    """The conversations of one engine, one model at a time: another one loaded takes the memory.

    Args:
        slots: conversations that the engine works on at once.
        clock: seconds, monotonic.

    Attributes:
        model: in memory, by its id; empty: none that is known of.
    """

    def __init__(self, slots: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self.slots = slots
        self._clock = clock
        self._used_at: dict[str, float] = {}
        self.model = ""
        # The newest last; the last `slots` of them are in the slots.
        self._held: OrderedDict[str, Held] = OrderedDict()
        self._room: int | None = None

    def used(self, model: str, conversation: str, held: Held, room: int | None) -> None:
        """The engine has read, or written, a conversation that far.

        Args:
            model: by its id.
            conversation: its name.
            held: what it has of it now.
            room: tokens that its cache beside the slots has room for; None: plenty.
        """
        if model != self.model:
            self.model = model
            self.forget()
        self._room = room
        if conversation not in self._in_slots():
            for name in self._thrown_out():
                del self._held[name], self._used_at[name]
        self._held[conversation], self._used_at[conversation] = held, self._clock()
        self._held.move_to_end(conversation)
        if len(self._held) > _MOST:
            oldest, _ = self._held.popitem(last=False)
            del self._used_at[oldest]

    def held(self, model: str, conversation: str) -> Held | None:
        """What will be found of a conversation when it comes back; None: nothing."""
        if model != self.model or conversation not in self._held:
            return None
        lost = conversation not in self._in_slots() and conversation in self._thrown_out()
        return None if lost else self._held[conversation]

    def _thrown_out(self) -> list[str]:
        """Which conversations go, the oldest first, when another comes into a slot: the one that leaves has to fit."""
        names = list(self._held)
        outside = names[: len(names) - (self.slots - 1)]
        kept = sum(self._held[name].tokens for name in outside)
        thrown = []
        for name in outside:
            if self._room is None or kept <= self._room:
                break
            kept -= self._held[name].tokens
            thrown.append(name)
        return thrown

    def in_slot(self, model: str, conversation: str) -> bool:
        """Whether it is in a slot: only there llama-server finds parts of it again that have moved (cache_reuse)."""
        return model == self.model and conversation in self._in_slots()

    def _in_slots(self) -> list[str]:
        return list(self._held)[-self.slots :]

    def tokens(self, model: str) -> int:
        """All that is held, in tokens."""
        return sum(held.tokens for held in self._held.values()) if model == self.model else 0

    def in_use(self, model: str, but: str, seconds: float) -> int:
        """Tokens of the other conversations than `but` that were used in the last `seconds` and are not lost yet: what
        the cache has to go on holding. Those that find another slot are left out."""
        names = [name for name in self._held if name != but and self.held(model, name) is not None]
        names = names[: len(names) - (self.slots - 1)]
        recent = (name for name in names if self._clock() - self._used_at[name] < seconds)
        return sum(self._held[name].tokens for name in recent)

    def forget(self) -> None:
        """The model was unloaded, or has died."""
        self._held.clear()
        self._used_at.clear()
