"""Which of llama.cpp's slots a conversation is sent to.

Left to itself llama-server takes the slot whose beginning is most like the prompt's. So two conversations with one
system prompt take turns in one slot, and each reads again all but that prompt. Measured with two slots, a system prompt
of 234 tokens and two conversations that take turns: in the fourth turn 174 tokens to read, 28 when each is sent to its
own slot.

A request for a slot waits until that slot is free, also where another is. So one in which another program's request is
worked on is left out.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

# A slot that a request of ours has left may work on so long: to the end of its batch. In seconds.
_LEAVING: Final = 10.0


class LlamaSlots:
    """Remembers which conversation is in which slot, and which slots work for us now.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The slots by their last use, the oldest first, each with the conversation in it.
        self._last: OrderedDict[int, str] = OrderedDict()
        self._busy: set[int] = set()
        # When our last request in a slot ended.
        self._left: dict[int, float] = {}

    @contextmanager
    def taken(self, conversation: str | None, slots: int, working: Collection[int] = ()) -> Iterator[int | None]:
        """The slot for a conversation, which is busy until the end of the block; None: the server's own choice, as no
        slot is free or there is only one.

        Args:
            conversation: its name; None: one that does not come back.
            slots: how many the server has.
            working: those that work now, for us or for others, as far as the server tells.
        """
        slot = self._choice(conversation, slots, working) if conversation is not None and slots > 1 else None
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
            self._left[slot] = self._clock()

    def _choice(self, conversation: str, slots: int, working: Collection[int]) -> int | None:
        """Its own slot, else an empty one, else the one that was used longest ago."""
        leaving = {slot for slot, at in self._left.items() if self._clock() - at < _LEAVING}
        taken = self._busy | (set(working) - leaving)
        free = [slot for slot in range(slots) if slot not in taken]
        own = [slot for slot in free if self._last.get(slot) == conversation]
        empty = [slot for slot in free if slot not in self._last]
        oldest = [slot for slot in self._last if slot in free]
        return next(iter((*own, *empty, *oldest)), None)

    def forget(self) -> None:
        """The server was started anew."""
        self._last.clear()
