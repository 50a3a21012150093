"""Text from tokens as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

# What a decoder writes for bytes that are no character, or not yet.
_INCOMPLETE = "\ufffd"


class Decoder(Protocol):
    """The part of a tokenizer that is needed here."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str: ...


class TextStream:
    """A streamer for `generate` that passes text on as soon as it is whole, however its bytes fall on tokens.

    Joined, the pieces are what decoding all tokens at once gives. Each token is decoded with the few before it, since
    a decoder may treat the beginning of a text unlike its middle; the time is linear in the length of the reply.
    Source of the two offsets: `detokenize_incrementally` in vLLM.

    Args:
        tokenizer: decodes.
        on_text: takes each piece, never an empty one.
        before: tokens of the text that is gone on with: without them a decoder would take the blank before the next
            word for one at the beginning of a text, and drop it.
    """

    def __init__(self, tokenizer: Decoder, on_text: Callable[[str], None], before: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._on_text = on_text
        self._ids = list(before)
        self._context = 0  # the first token that is decoded together with new ones
        self._told = len(self._ids)  # the first token whose text has not been passed on
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """Take the next ids, a tensor; `generate` brings the prompt first."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        for token in value.flatten().tolist():
            self.add(token)

    def add(self, token: int) -> None:
        """Take the next token."""
        self._ids.append(token)
        before, with_new = self._texts()
        if len(with_new) > len(before) and not with_new.endswith(_INCOMPLETE):
            self._on_text(with_new[len(before) :])
            self._context, self._told = self._told, len(self._ids)

    def end(self) -> None:
        """The reply has ended: bytes that never became a character are passed on as such."""
        before, with_new = self._texts()
        if len(with_new) > len(before):
            self._on_text(with_new[len(before) :])
        self._context = self._told = len(self._ids)

    def _texts(self) -> tuple[str, str]:
        """The text of the tokens from `_context` on: of those that were passed on, and of all."""
        ids = self._ids
        before = self._tokenizer.decode(ids[self._context : self._told], skip_special_tokens=True)
        return before, self._tokenizer.decode(ids[self._context :], skip_special_tokens=True)
