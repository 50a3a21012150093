"""Which of llama.cpp's slots a conversation is sent to.

Left to itself llama-server takes the slot whose beginning is most like the prompt's. So two conversations with one
system prompt take turns in one slot, and each reads again all but that prompt. Measured with two slots, a system prompt
of 234 tokens and two conversations that take turns: in the fourth turn 174 tokens to read, 28 when each is sent to its
own slot.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager


class LlamaSlots:
    """Remembers which conversation is in which slot, and which slots work for us now."""

    def __init__(self) -> None:
        # The slots by their last use, the oldest first, each with the conversation in it.
        self._last: OrderedDict[int, str] = OrderedDict()
        self._busy: set[int] = set()

    @contextmanager
    def taken(self, conversation: str | None, slots: int) -> Iterator[int | None]:
        """The slot for a conversation, which is busy until the end of the block; None: the server's own choice, as no
        slot is free or there is only one.

        Args:
            conversation: its name; None: one that does not come back.
            slots: how many the server has.
        """
        slot = self._choice(conversation, slots) if conversation is not None and slots > 1 else None
        if slot is None or conversation is None:
            yield None
            return
        self._busy.add(slot)
        self._last[slot] = conversation
        self._last.move_to_end(slot)
        try:
            yield slot
        finally:
            self._busy.discard(slot)

    def _choice(self, conversation: str, slots: int) -> int | None:
        """Its own slot, else an empty one, else the one that was used longest ago."""
        free = [slot for slot in range(slots) if slot not in self._busy]
        own = [slot for slot in free if self._last.get(slot) == conversation]
        empty = [slot for slot in free if slot not in self._last]
        oldest = [slot for slot in self._last if slot in free]
        return next(iter((*own, *empty, *oldest)), None)

    def forget(self) -> None:
        """The server was started anew."""
        self._last.clear()
