"""Reasoning that a model writes into its text, between <think> and </think>, told apart from the answer."""

from __future__ import annotations

from typing import Final

from app.engines.base import Delta

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class ThinkSplitter:
    """Splits a reply that comes in pieces, broken anywhere, into reasoning and answer.

    Only a block at the very start of the reply is reasoning; a later `<think>` is a word like any other. A block that
    is never closed is reasoning to its end.

    Args:
        inside: the chat template has opened the block, so the reply begins within it.
    """

    def __init__(self, *, inside: bool = False) -> None:
        self._state = "reasoning" if inside else "start"
        self._held = ""

    def feed(self, text: str) -> list[Delta]:
        """Take the next piece; return what is certain by now, without empty deltas."""
        self._held += text
        deltas: list[Delta] = []
        if self._state == "start":
            begun = self._held.lstrip()
            if begun.startswith(_OPEN):
                self._state, self._held = "reasoning", begun[len(_OPEN) :].lstrip("\n")
            elif not _OPEN.startswith(begun[: len(_OPEN)]):
                self._state = "answer"
        if self._state == "reasoning":
            before, closed, after = self._held.partition(_CLOSE)
            if closed:
                self._state, self._held = "gap", after
            else:
                before, self._held = _without_beginning_of(_CLOSE, before)
            if before:
                deltas.append(Delta(before, "reasoning"))
        if self._state == "gap":
            self._held = self._held.lstrip()
            if self._held:
                self._state = "answer"
        if self._state == "answer" and self._held:
            deltas.append(Delta(self._held))
            self._held = ""
        return deltas

    def flush(self) -> list[Delta]:
        """The reply has ended: what was held back."""
        text, self._held = self._held, ""
        if not text or self._state == "gap":
            return []
        return [Delta(text, "reasoning" if self._state == "reasoning" else "answer")]


def _without_beginning_of(tag: str, text: str) -> tuple[str, str]:
    """`text` without the longest end that could be the beginning of `tag`, and that end."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[-size:]):
            return text[:-size], text[-size:]
    return text, ""
