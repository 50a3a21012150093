"""Reasoning that a model writes into its text, between <think> and </think>, told apart from the answer."""

from __future__ import annotations

from typing import Final, Literal

from app.engines.base import Delta
from app.engines.stop_text import without_beginning_of

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ThinkSplitter:
    """Splits a reply that comes in pieces, broken anywhere, into reasoning and answer.

    Only a block at the very start of the reply is reasoning; a later `<think>` is a word like any other. A block that
    is never closed is reasoning to its end. White space after either tag, and before the first, is dropped.

    Args:
        inside: the chat template has opened the block in the prompt, so the reply begins within it.
        begun: an answer is gone on with, so there is no block any more.
    """

    def __init__(self, *, inside: bool = False, begun: bool = False) -> None:
        self._state: Literal["start", "opened", "reasoning", "closed", "answer"] = "opened" if inside else "start"
        if begun:
            self._state = "answer"
        self._held = ""

    def feed(self, text: str) -> list[Delta]:
        """Take the next piece; return what is certain by now, without empty deltas."""
        self._held += text
        deltas: list[Delta] = []
        if self._state == "start":
            self._start()
        if self._state == "opened" and self._drop_space():
            self._state = "reasoning"
        if self._state == "reasoning":
            deltas += self._reason()
        if self._state == "closed" and self._drop_space():
            self._state = "answer"
        if self._state == "answer" and self._held:
            deltas.append(Delta(self._held))
            self._held = ""
        return deltas

    def flush(self) -> list[Delta]:
        """The reply has ended: what was held back."""
        text, self._held = self._held, ""
        if not text:
            return []
        return [Delta(text, "reasoning" if self._state == "reasoning" else "answer")]

    def _start(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(_OPEN):
            self._state, self._held = "opened", begun.removeprefix(_OPEN)
        elif not _OPEN.startswith(begun):
            self._state = "answer"

    def _drop_space(self) -> bool:
        """Whether anything but white space has come after a tag."""
        self._held = self._held.lstrip()
        return bool(self._held)

    def _reason(self) -> list[Delta]:
        reasoning, closed, rest = self._held.partition(_CLOSE)
        if closed:
            self._state = "closed"
        else:
            reasoning, rest = without_beginning_of((_CLOSE,), reasoning)
        self._held = rest
        return [Delta(reasoning, "reasoning")] if reasoning else []
