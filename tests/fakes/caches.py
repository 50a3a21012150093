"""What a fake Ollama keeps of what it has read: llama-server's slot and its prompt cache in memory.

After server_prompt_cache and update_slots in llama.cpp's tools/server; `shared/ollama` has what was measured of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# What 8,192 MiB, llama-server's default, hold of gemma2:2b at 104 KiB a token.
CACHE_TOKENS: Final = 8192 * 1024 // 104

# What is in the slot goes to the cache where less of it than this would stay, and is looked for there where at least
# so much of it would be of use.
_STAYS: Final = 0.5
_OF_USE: Final = 0.25


class Caches:
    """The tokens of one loaded model.

    Args:
        room: tokens that the prompt cache has room for; 0: there is none.
        reuse: smallest piece that is moved where what stood before it has gone, in tokens; 0: nothing is moved.

    Attributes:
        slot: what the slot holds.
    """

    def __init__(self, room: int = CACHE_TOKENS, reuse: int = 0) -> None:
        self._room = room
        self._reuse = reuse
        self.slot: list[str] = []
        # The oldest first.
        self._kept: list[list[str]] = []

    def take(self, prompt: Sequence[str]) -> int:
        """Make the slot ready for a prompt: what it holds of it stays, the rest is gone. Returns how much stays."""
        if self._room and self.slot and common(self.slot, prompt) < _STAYS * len(self.slot):
            self._keep()
            self._find(prompt)
        known = common(self.slot, prompt)
        if self._reuse:
            known += self._moved(prompt, known)
        self.slot = list(prompt[:known])
        return known

    def _keep(self) -> None:
        """What leaves the slot goes to the cache; the oldest there go until all has room."""
        self._kept = [old for old in self._kept if common(old, self.slot) < len(old)]
        self._kept.append(self.slot)
        while self._kept and sum(map(len, self._kept)) > self._room:
            self._kept.pop(0)

    def _find(self, prompt: Sequence[str]) -> None:
        """What begins like the prompt comes back, where that is more than what the slot holds."""
        known, found = common(self.slot, prompt), None
        for old in self._kept:
            equal = common(old, prompt)
            if equal > known and equal >= _OF_USE * len(old):
                known, found = equal, old
        if found is not None:
            self._kept.remove(found)
            self.slot = found

    def _moved(self, prompt: Sequence[str], known: int) -> int:
        """Tokens after the first `known` that the slot holds further on, in pieces that are worth moving."""
        at, moved = known, 0
        while at < len(self.slot) and known + moved < len(prompt):
            piece = common(self.slot[at:], prompt[known + moved :]) if self.slot[at] == prompt[known + moved] else 0
            if piece >= self._reuse:
                at, moved = at + piece, moved + piece
            else:
                at += 1
        return moved


def common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many tokens both begin with."""
    for number, (token, its) in enumerate(zip(one, other, strict=False)):
        if token != its:
            return number
    return min(len(one), len(other))
