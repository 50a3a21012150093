"""The key-value caches of conversations, kept from turn to turn.

A cache that holds more, or other, than the ids it is believed to hold gives wrong text without an error. So a cache is
taken out before it is used and only put back with the ids that it provably holds: whatever fails in between loses it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

# transformers' DynamicCache; torch is not imported here.
Cache = Any


@dataclass(slots=True)
class Conversation:
    """A cache, and the token ids whose keys and values it holds."""

    cache: Cache
    ids: list[int]


class ConversationCaches:
    """The caches of the last conversations; the one unused longest goes first. Not for several threads at once.

    Args:
        new: makes an empty cache.
        kept: how many are kept.
    """

    def __init__(self, new: Callable[[], Cache], kept: int) -> None:
        self._new = new
        self._kept = kept
        self._conversations: OrderedDict[str, Conversation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._conversations)

    def take(self, name: str | None, ids: Sequence[int]) -> Conversation:
        """The cache of a conversation, cut back to what it shares with a new prompt; an empty one if there is none.

        The last of `ids` is never shared: it is read anew to know what follows it.
        """
        known = self._conversations.pop(name, None) if name is not None else None
        if known is not None:
            pairs = zip(known.ids, ids[:-1], strict=False)
            shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if _crop(known.cache, len(known.ids) - shared):
                return Conversation(known.cache, list(ids[:shared]))
        return Conversation(self._new(), [])

    def keep(self, name: str | None, conversation: Conversation) -> None:
        """Put a cache back for the next turn, if it holds exactly its ids."""
        if name is None or conversation.cache.get_seq_length() != len(conversation.ids):
            return
        self._conversations[name] = conversation
        self._conversations.move_to_end(name)
        while len(self._conversations) > self._kept:
            self._conversations.popitem(last=False)

    def clear(self) -> None:
        """Drop them all."""
        self._conversations.clear()


def _crop(cache: Cache, extra: int) -> bool:
    """Remove the last `extra` tokens; False where that can't be done, and the cache is of no use any more.

    A sliding window has forgotten what would have to come back, and a recurrent state can't be run backwards:
    transformers says so by `is_croppable`, or by a RuntimeError when some layers may already be cut.
    """
    if extra == 0:
        return True
    length = cache.get_seq_length() - extra
    if not cache.is_croppable:
        return False
    try:
        cache.crop(-extra)  # a number of tokens to remove, negative
    except RuntimeError:
        return False
    return bool(cache.get_seq_length() == length)
