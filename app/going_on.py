"""Going on with an answer that was cut off: what of it is sent, and how what comes is joined to it."""

from __future__ import annotations

from typing import Final

from app.history import StoredMessage

# What decoders write for the bytes of a character that was cut off: the model writes that character anew.
_HALF: Final = "\ufffd"


class Seam:
    """Joins new text to the answer that it goes on with.

    Chat templates trim a message, so it is sent without white space at its end. A model then writes that again, or
    takes it as said; joined, there is as much of it as either has written, not both.

    Args:
        answer: so far.

    Attributes:
        sent: the answer as the model reads it.
    """

    def __init__(self, answer: StoredMessage) -> None:
        text = answer.text.rstrip(_HALF)
        words = text.rstrip()
        self.sent = StoredMessage(answer.id, words, dict(answer.tokens), "assistant")
        self._space = text[len(words) :]
        self._held = ""
        self.joined = False

    def feed(self, text: str) -> str:
        """What is to be put behind `sent` and what was fed before; nothing as long as only white space has come."""
        if self.joined:
            return text
        self._held += text
        words = self._held.lstrip()
        if not words:
            return ""
        self.joined = True
        return _between(self._space, self._held[: len(self._held) - len(words)]) + words


def _between(before: str, after: str) -> str:
    """White space where two texts meet, of that which ends the one and that which begins the other."""
    if after.count("\n") >= before.count("\n"):
        return after or before
    # Line breaks that are there stay; what the model indents the next line by is its own.
    indent = after.rpartition("\n")[2] if "\n" in after else ""
    return before[: before.rindex("\n") + 1] + indent
