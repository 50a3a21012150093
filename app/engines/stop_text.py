"""Texts at which a reply ends, in a reply that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


def without_beginning_of(words: Sequence[str], text: str) -> tuple[str, str]:
    """`text` without the longest end that could be the beginning of one of `words`, and that end."""
    longest = max(map(len, words), default=0)
    for size in range(min(longest - 1, len(text)), 0, -1):
        if any(len(word) > size and word.startswith(text[-size:]) for word in words):
            return text[:-size], text[-size:]
    return text, ""


class StopSplitter:
    """Ends a text before the first of the stop texts that is complete in it, wherever the pieces break.

    Args:
        stops: the stop texts.

    Attributes:
        stopped: whether one has come; nothing is let through after that.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(filter(None, stops))
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """Take the next piece; return what is certain not to belong to a stop text."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        # The first to be complete; of those that end together the one that began first.
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.stopped, self._held = True, ""
            return text[: min(ends)[1]]
        text, self._held = without_beginning_of(self._stops, text)
        return text

    def flush(self) -> str:
        """The text has ended: what was held back."""
        text, self._held = self._held, ""
        return text
