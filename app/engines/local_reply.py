"""The text of one reply of a local model on its way out: ended at a stop text, reasoning told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.engines.base import CompletionRequest, Delta
from app.engines.reasoning import ThinkSplitter
from app.engines.stop_text import StopSplitter


class ReplyText:
    """Takes text in pieces as the model writes it.

    Args:
        request: whose reply it is.
        emit: takes what is certain.
        inside: the prompt has opened the <think> block.
        stops: texts that end it, beside those of the request; the model is one of a plain template, which has left the
            blank before the reply to it.
    """

    def __init__(
        self,
        request: CompletionRequest,
        emit: Callable[[Delta], None],
        *,
        inside: bool = False,
        stops: Sequence[str] = (),
    ) -> None:
        plain = bool(stops) and not request.raw
        self._stops = StopSplitter((*request.options.stop, *stops) if plain else request.options.stop)
        self._at_beginning = plain and not request.continues
        self._splitter = None if request.raw else ThinkSplitter(inside=inside, begun=request.continues)
        self._emit = emit

    @property
    def stopped(self) -> bool:
        """Whether a stop text has come."""
        return self._stops.stopped

    def feed(self, text: str) -> None:
        """Take the next piece."""
        self._pass_on(self._stops.feed(text))

    def flush(self) -> None:
        """The reply has ended: pass on what was held back."""
        self._pass_on(self._stops.flush())
        for delta in self._splitter.flush() if self._splitter else ():
            self._emit(delta)

    def _pass_on(self, text: str) -> None:
        if self._at_beginning:
            text = text.lstrip()
            self._at_beginning = not text
        if self._splitter is None:
            if text:
                self._emit(Delta(text))
            return
        for delta in self._splitter.feed(text):
            self._emit(delta)
